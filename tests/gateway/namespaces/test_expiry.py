"""Times at which things end, as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.namespaces.errors import ExpiryInvalid
from gateway.namespaces.expiry import check_lifetime, parse_expiry

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expires_at"),
    [
        ("2025-03-05", datetime(2025, 3, 5, tzinfo=UTC)),
        ("2025-03-04T05:07Z", datetime(2025, 3, 4, 5, 7, tzinfo=UTC)),
        ("2025-03-04T06:06:08+01:00", datetime(2025, 3, 4, 5, 6, 8, tzinfo=UTC)),
        ("90s", NOW + timedelta(seconds=90)),
        ("12h", NOW + timedelta(hours=12)),
        ("30d", NOW + timedelta(days=30)),
    ],
)
def test_an_expiry_is_a_date_a_time_or_a_duration(text: str, expires_at: datetime) -> None:
    assert parse_expiry(text, NOW) == expires_at


@pytest.mark.parametrize(
    "text",
    [
        *("", "never", "tomorrow", "1", "1w", "-1d", "1h30m", "36501d", "20300131", "2030-W01-1", "2030-02-30"),
        *("2030-01-31T18:00:00", "2030-01-31 18:00:00Z", "2030-01-31T25:00Z", "2030-01-31T18:00+9:00", "2030-1-31"),
        *("9999-12-31T23:59:59-23:59", "\u0662\u0660\u0663\u0660-01-01", "2030-01-31\n"),
    ],
)
def test_other_texts_are_refused_with_the_forms_that_would_do(text: str) -> None:
    with pytest.raises(ExpiryInvalid, match="is not a time: use a date such as 2030-01-31, a time such as"):
        parse_expiry(text, NOW)


@pytest.mark.parametrize("text", ["2025-03-04", "2025-03-04T05:06:07Z", "0s", "0001-01-01"])
def test_what_is_not_in_the_future_is_refused(text: str) -> None:
    with pytest.raises(ExpiryInvalid, match=f"^'{text}' is not in the future: use a later time$"):
        parse_expiry(text, NOW)


def test_a_lifetime_has_both_bounds() -> None:
    day = timedelta(days=1)
    for good in (timedelta(seconds=1), day):
        check_lifetime(NOW + good, day, NOW, "a job")
    check_lifetime(NOW + 999 * day, None, NOW, "a job")
    with pytest.raises(ExpiryInvalid, match="a job cannot expire at 2025-03-04T05:06:07Z, which is not in the"):
        check_lifetime(NOW, None, NOW, "a job")
    with pytest.raises(ExpiryInvalid, match="until 2025-03-05T05:06:08Z: the latest expiry is 2025-03-05T05:06:07Z"):
        check_lifetime(NOW + day + timedelta(seconds=1), day, NOW, "a job")
