"""Pages of the documentation by topic, and the topics that come close to a word."""

import pytest

from gateway.help.pages import TopicUnknown, get_page, list_pages, topics


def test_every_page_has_a_topic_and_a_line_that_sums_it_up() -> None:
    assert tuple(page.topic for page in list_pages()) == topics()
    assert get_page("settings").summary == "Every setting with its default and its meaning."


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("gate", ["gates"]),
        ("Quota", ["quota"]),
        ("gitlab", ["gitlab-ci", "gitlab-runner"]),
        ("upstreem", ["upstreams"]),
        ("zzz", []),
        ("../settings", ["settings"]),
    ],
)
def test_an_unknown_topic_is_refused_with_those_near_it(word: str, near: list[str]) -> None:
    with pytest.raises(TopicUnknown, match="there is no help topic") as refused:
        get_page(word)
    assert refused.value.near[: len(near)] == near
    assert bool(refused.value.near) == bool(near)
