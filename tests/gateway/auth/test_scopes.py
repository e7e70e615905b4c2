"""Scopes as clients write them, and the claim of a token."""

import pytest

from gateway.auth.scopes import (
    SCOPE_LIMIT,
    WORD_LIMIT,
    TooManyScopes,
    access_document,
    granted_actions,
    parse_scopes,
    scope_text,
)

BOTH = ["pull", "push"]
ALL = ["delete", "pull", "push"]


def parsed(*texts: str) -> dict[str, list[str]]:
    return {scope.name.text: sorted(scope.actions) for scope in parse_scopes(texts, ["localhost:8080", "r.example"])}


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((), {}),
        (("repository:a/b:pull",), {"a/b": ["pull"]}),
        (("repository:a/b:pull,push", "repository:c:pull"), {"a/b": BOTH, "c": ["pull"]}),
        (("repository:a/b:pull,push repository:c:pull",), {"a/b": BOTH, "c": ["pull"]}),
        (("repository:a:pull", "repository:a:push"), {"a": BOTH}),
        (("repository:a:*",), {"a": ALL}),
        (("repository(plugin):a/b:pull",), {"a/b": ["pull"]}),
        (("repository:localhost:8080/a/b:pull",), {"a/b": ["pull"]}),
        (("repository:r.example/a/b:pull",), {"a/b": ["pull"]}),
        (("repository:other:5000/a/b:pull",), {}),
        (("registry:catalog:*",), {}),
        (("repository:a:fly",), {}),
        (("repository:a:fly,pull",), {"a": ["pull"]}),
        (("repository:A:pull", "repository::pull", "repository:a", "", "::", "repository:../x:pull"), {}),
    ],
)
def test_scopes_are_read_in_both_spellings_and_what_means_nothing_is_dropped(
    texts: tuple[str, ...], found: dict[str, list[str]]
) -> None:
    assert parsed(*texts) == found


def test_the_number_of_scopes_is_bounded() -> None:
    scopes = [f"repository:r{number}:pull" for number in range(SCOPE_LIMIT)]
    assert len(parsed(*scopes, *scopes, "repository:r0:push")) == SCOPE_LIMIT
    with pytest.raises(TooManyScopes, match="more than 20 repositories"):
        parsed(" ".join([*scopes, "repository:another:pull"]))
    with pytest.raises(TooManyScopes, match="more than 100 scopes"):
        parsed("x " * (WORD_LIMIT + 1))


def test_a_star_is_marked() -> None:
    assert [scope.everything for scope in parse_scopes(["repository:a:*", "repository:b:pull"])] == [True, False]


def test_a_scope_lists_its_actions_in_the_usual_order() -> None:
    assert scope_text("a/b", {"push", "pull"}) == "repository:a/b:pull,push"


def test_the_claim_of_a_token_is_read_as_it_was_written() -> None:
    granted = {"a": frozenset({"pull", "push", "delete", "*"}), "b": frozenset({"pull"})}
    document = access_document(granted)
    assert document[0] == {"type": "repository", "name": "a", "actions": ["pull", "push", "delete", "*"]}
    assert granted_actions(document) == {"a": frozenset(ALL), "b": frozenset({"pull"})}
