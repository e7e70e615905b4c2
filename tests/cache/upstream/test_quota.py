"""Retry-After in every form that upstreams send."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.upstream.quota import retry_after

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
