"""What an upstream says about how much it will still give; pure."""

import time
from collections.abc import Callable, Mapping
from email.utils import mktime_tz, parsedate_tz


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> int | None:
    """Seconds of a Retry-After header, given as a number or a date (RFC 9110, section 10.2.3); None without one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:10]), 24 * 3600)
    try:
        date = parsedate_tz(value)
        return None if date is None else max(0, min(round(mktime_tz(date) - now()), 24 * 3600))
    except (ValueError, OverflowError, IndexError):  # the library's answers to a year 99999 and the like
        return None
