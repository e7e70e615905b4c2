"""Limits and Retry-After in every form that upstreams send, and what follows."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.upstream.allowance import (
    FIRST_PAUSE,
    PROBE_WITHIN,
    RETRY_CAP,
    SAMPLES,
    UNKNOWN,
    Allowance,
    RequestKind,
    SavingMode,
    StatedLimit,
    after_probe_sent,
    after_refusal,
    after_response,
    empty_at,
    in_words,
    left_now,
    needs_probe,
    parse_stated_limit,
    pause,
    plausible,
    retry_after,
    saving_mode,
    stated_delay,
)

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DAY = 24 * 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("17", 17),
        (" 17 ", 17),
        ("86401", DAY),
        ("9" * 5_000, DAY),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 0),
        ("Tue, 14 Nov 2023 21:00:00 GMT", 0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30),
        ("Tue Nov 14 22:13:50 2023", 30),
        ("Tue, 14 Nov 2024 22:13:20 GMT", DAY),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("\u00b2", None),
        ("\u0661\u0667", None),
        ("Tue, 14 Nov 99999 22:13:20 GMT", None),
        ("Tue,", None),
    ],
)
def test_seconds_and_dates_are_understood_and_garbage_is_none(value: str, seconds: int | None) -> None:
    assert retry_after({"retry-after": value}, lambda: NOW) == seconds


def test_without_the_header_there_is_none() -> None:
    assert retry_after({}, lambda: NOW) is None


DATE_LIKE = st.lists(
    st.sampled_from(
        ["Tue,", "14", "Nov", "2023", "99999", "22:13:20", "99:99", "GMT", "-0000", "+99999", "-", ":", ","]
    ),
    max_size=8,
).map(" ".join)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.text("0123456789-+: ,GMTNov", max_size=40), DATE_LIKE))
def test_whatever_an_upstream_sends_is_a_bounded_number_or_none(value: str) -> None:
    seconds = retry_after({"retry-after": value}, lambda: NOW)
    assert seconds is None or 0 <= seconds <= DAY


# What an answer says.


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}, StatedLimit(100, 76, 21600)),
        (
            {
                "ratelimit-limit": "100;w=21600",
                "ratelimit-remaining": "0;w=21600",
                "docker-ratelimit-source": "1.2.3.4",
            },
            StatedLimit(100, 0, 21600, "1.2.3.4"),
        ),
        ({"ratelimit-remaining": "7"}, StatedLimit(None, 7, None)),
        ({"ratelimit-limit": " 10 ; w=60 "}, StatedLimit(10, None, 60)),
        ({"ratelimit-limit": "10, 10;w=1, 1000;w=3600"}, StatedLimit(10, None, None)),
        ({"ratelimit-limit": "10;w=60;comment=x"}, StatedLimit(10, None, 60)),
        ({"ratelimit-limit": "many"}, None),
        ({"ratelimit-limit": "-1"}, None),
        ({"ratelimit-remaining": "9" * 500}, None),
        ({"ratelimit-remaining": "\u0667"}, None),
        ({"ratelimit-limit": "5", "docker-ratelimit-source": "a b<c>"}, StatedLimit(5)),
        ({"ratelimit-limit": "5", "docker-ratelimit-source": "x" * 65}, StatedLimit(5)),
        ({"docker-ratelimit-source": "1.2.3.4"}, None),
    ],
)
def test_limits_are_read_as_upstreams_write_them(headers: dict[str, str], expected: StatedLimit | None) -> None:
    assert parse_stated_limit(headers) == expected


@given(st.text(max_size=60), st.text("0123456789;w= ,-", max_size=30))
def test_whatever_is_said_of_limits_is_a_count_or_nothing(one: str, other: str) -> None:
    stated = parse_stated_limit({"ratelimit-limit": one, "ratelimit-remaining": other})
    assert stated is None or all(value is None or 0 <= value < 1e9 for value in (stated.limit, stated.remaining))


# What follows from it.

PULL, CHECK, CONTENT, PART = RequestKind.PULL, RequestKind.CHECK, RequestKind.CONTENT, RequestKind.PART
LIMITED = StatedLimit(100, 0, 21600)


def refused(
    kind: RequestKind = PULL, stated: StatedLimit | None = LIMITED, retry: int | None = None, known: Allowance = UNKNOWN
) -> Allowance:
    return after_refusal(known, kind, stated, retry, NOW, NOW)


@pytest.mark.parametrize(
    ("allowance", "pauses"),
    [
        (UNKNOWN, {PULL: False, CHECK: False, CONTENT: False, PART: False}),
        (refused(), {PULL: True, CHECK: True, CONTENT: False, PART: False}),
        (refused(stated=None), {PULL: True, CHECK: True, CONTENT: True, PART: True}),
        (refused(CHECK), {PULL: True, CHECK: True, CONTENT: True, PART: True}),
        (refused(CONTENT), {PULL: True, CHECK: True, CONTENT: True, PART: True}),
        (after_response(UNKNOWN, PULL, LIMITED, NOW, NOW), {PULL: True, CHECK: True, CONTENT: False, PART: False}),
        (
            after_response(UNKNOWN, PULL, StatedLimit(100, 1), NOW, NOW),
            {PULL: False, CHECK: False, CONTENT: False, PART: False},
        ),
    ],
)
def test_a_pause_is_for_what_the_limit_counts(allowance: Allowance, pauses: dict[RequestKind, bool]) -> None:
    assert {kind: pause(allowance, kind, False, NOW) > 0 for kind in pauses} == pauses


def test_checks_that_are_known_to_be_free_go_on_until_one_is_refused() -> None:
    assert pause(refused(), CHECK, True, NOW) == 0
    assert pause(refused(CHECK), CHECK, True, NOW) > 0


@pytest.mark.parametrize(
    ("retry", "seconds"), [(0, 1), (1, 1), (17, 17), (3600, 3600), (86_400, RETRY_CAP), (None, FIRST_PAUSE)]
)
def test_a_pause_is_as_long_as_the_upstream_says_within_an_hour(retry: int | None, seconds: float) -> None:
    assert pause(refused(retry=retry), PULL, False, NOW) == seconds


def test_a_pause_that_was_written_before_the_clock_was_set_back_does_not_last_for_ever() -> None:
    known = refused(retry=600)
    assert pause(plausible(known, NOW - 300), PULL, False, NOW - 300) == 900
    past = NOW - 24 * 3600
    known = plausible(known, past)
    assert pause(known, PULL, False, past) == 0
    assert after_refusal(known, PULL, LIMITED, 60, past, past).until == past + 60, "a new pause is none of the old one"


def test_a_limit_that_was_stated_in_the_future_is_forgotten() -> None:
    known = after_response(UNKNOWN, PULL, StatedLimit(100, 1, 3600), NOW, NOW)
    assert plausible(known, NOW) == known
    assert left_now(plausible(known, NOW - 1), NOW - 1) == 1
    assert plausible(known, NOW - 24 * 3600) == UNKNOWN
    assert saving_mode(plausible(known, NOW - 24 * 3600), NOW - 24 * 3600) is SavingMode.NONE


def test_without_a_word_pauses_double_up_to_a_quarter_of_an_hour() -> None:
    known, now, pauses = UNKNOWN, NOW, []
    for _ in range(7):
        known = after_refusal(known, PULL, LIMITED, None, now, now)
        pauses.append(known.until - now)
        now = known.until
        known = after_probe_sent(known, now)
    assert pauses == [30, 60, 120, 240, 480, 900, 900]


def test_a_herd_that_is_refused_at_once_pauses_once() -> None:
    known = refused()
    for _ in range(50):
        known = after_refusal(known, PULL, LIMITED, None, NOW - 1, NOW + 0.1)
    assert known.strikes == 1
    assert known.until <= NOW + FIRST_PAUSE + 1
    assert after_refusal(known, PULL, LIMITED, 600, NOW - 1, NOW).until == NOW + 600


def test_after_a_pause_one_goes_first_and_its_answer_ends_it_for_all() -> None:
    known, later = refused(retry=10), NOW + 10
    assert not needs_probe(UNKNOWN, PULL, False, later)
    assert needs_probe(known, PULL, False, later)
    going = after_probe_sent(known, later)
    assert 0 < pause(going, PULL, False, later) <= PROBE_WITHIN
    assert pause(after_response(going, PULL, StatedLimit(100, 3), later, later + 1), PULL, False, later + 1) == 0
    assert pause(after_refusal(going, PULL, LIMITED, 60, later, later), PULL, False, later) == 60
    assert needs_probe(going, PULL, False, later + PROBE_WITHIN)


def test_an_answer_that_was_under_way_when_the_pause_began_does_not_end_it() -> None:
    known = refused()
    assert pause(after_response(known, PULL, StatedLimit(100, 1), NOW - 1, NOW), PULL, False, NOW) > 0
    assert pause(after_response(known, CONTENT, None, NOW + 1, NOW + 1), PULL, False, NOW + 1) > 0
    assert pause(after_response(known, CHECK, StatedLimit(100, 1), NOW + 1, NOW + 1), PULL, False, NOW + 1) == 0


@pytest.mark.parametrize(
    ("limit", "remaining", "expected"),
    [
        (None, None, SavingMode.NONE),
        (100, 50, SavingMode.NONE),
        (100, 10, SavingMode.NONE),
        (100, 9, SavingMode.LITTLE),
        (100, 5, SavingMode.LITTLE),
        (100, 4, SavingMode.SCARCE),
        (5000, 499, SavingMode.LITTLE),
        (5000, 500, SavingMode.NONE),
        (8, 4, SavingMode.NONE),
        (8, 3, SavingMode.LITTLE),
        (8, 1, SavingMode.SCARCE),
        (100, 0, SavingMode.NONE),
    ],
)
def test_when_little_is_left_it_is_saved(limit: int | None, remaining: int | None, expected: SavingMode) -> None:
    known = Allowance(limit=limit, remaining=remaining, window=21600, told_at=NOW)
    assert saving_mode(known, NOW) is expected
    assert saving_mode(known, NOW + 21601) is SavingMode.NONE


def test_what_was_used_is_taken_to_come_back_little_by_little() -> None:
    known = Allowance(limit=100, remaining=3, window=21600, told_at=NOW)
    found = [saving_mode(known, NOW + minutes * 60) for minutes in (0, 6, 8, 24, 26)]
    assert found == [SavingMode.SCARCE, SavingMode.SCARCE, SavingMode.LITTLE, SavingMode.LITTLE, SavingMode.NONE]


def test_the_forecast_goes_on_as_of_late() -> None:
    known = UNKNOWN
    assert empty_at(known, NOW) is None
    for minute, remaining in enumerate((100, 98, 96, 94)):
        known = after_response(known, PULL, StatedLimit(100, remaining, 21600), NOW + 60 * minute, NOW + 60 * minute)
    assert empty_at(known, NOW + 180) == NOW + 180 + 94 / 2 * 60
    plenty = replace(known, samples=((NOW, 900_000_001), (NOW + 3600, 900_000_000)))
    assert empty_at(plenty, NOW) is None
    refilled = after_response(known, PULL, StatedLimit(100, 99), NOW + 240, NOW + 240)
    assert empty_at(refilled, NOW + 240) is None


def test_samples_of_a_long_time_are_bounded() -> None:
    known = UNKNOWN
    for second in range(10_000):
        known = after_response(known, PULL, StatedLimit(20_000, 20_000 - second), NOW + second, NOW + second)
    assert len(known.samples) <= SAMPLES


def test_why_nothing_is_sent_is_said_in_words() -> None:
    words = in_words(refused(retry=3000), "docker.io", "anonymous users", NOW)
    assert words == "docker.io's pull limit for anonymous users is used up until 23:03 UTC"
    words = in_words(refused(CHECK, retry=3000), "docker.io", "this gateway's account", NOW)
    assert (
        words == "docker.io says that this gateway's account sent too many requests, so none are sent until 23:03 UTC"
    )
    overnight = after_refusal(UNKNOWN, PULL, LIMITED, 3600, NOW + 6000, NOW + 6000)
    assert in_words(overnight, "docker.io", "anonymous users", NOW + 6000).endswith("until 2023-11-15 00:53 UTC")


def test_of_answers_to_requests_of_one_moment_the_least_counts_in_whatever_order_they_come() -> None:
    known = after_response(UNKNOWN, PULL, StatedLimit(100, 5), NOW, NOW + 1)
    known = after_response(known, PULL, StatedLimit(100, 7), NOW, NOW + 2)
    assert known.remaining == 5
    assert after_response(known, PULL, StatedLimit(100, 9), NOW + 3, NOW + 4).remaining == 9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("toomanyrequests: retry-after: 880.092\u00b5s, allowed: 44000/minute", 1),
        ("toomanyrequests: retry-after: 880.092\u03bcs, allowed: 44000/minute", 1),
        ("retry-after: 1.5s", 2),
        ("Retry-After: 1m30.5s, allowed: 1/hour", 91),
        ("retry after 120", 120),
        ("retry-after: 2h", 7200),
        ("retry-after: 9999999h", 24 * 3600),
        ('{"retry-after":"15"}', None),
        ('{"retry-after":15}', 15),
        ("retry-after: 5 apples a day", 5),
        ("retry-after: 1.5", None),
        ("retry-after: s", None),
        ("retry-after: 12parsecs", None),
        ("Too Many Requests (HAP429).", None),
        ("", None),
    ],
)
def test_a_delay_may_stand_in_the_message(text: str, seconds: int | None) -> None:
    """ghcr.io's: https://github.com/dependabot/cli/issues/380."""
    assert stated_delay({}, text.encode()) == seconds
    assert stated_delay({"retry-after": "17"}, text.encode()) == 17


def test_a_delay_is_found_in_no_time() -> None:
    for text in ("retry-after: " + "1s" * 30_000 + "x", "retry-after " * 5_000, "retry-after:" + " " * 60_000):
        began = time.thread_time()
        stated_delay({}, text.encode())
        assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("filling", [" ", "\n", "1h", "retry-after ", "retry after: 1"])
def test_a_delay_is_sought_in_linear_time(filling: str) -> None:
    text = "retry-after" + filling * (16_000 // len(filling)) + "x"
    began = time.thread_time()
    assert stated_delay({}, text.encode()) is None
    assert time.thread_time() - began < 1
