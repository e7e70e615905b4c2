"""CleanupRule: which tags a cleanup policy or a bulk deletion is to delete, as clients write it."""

import re
from dataclasses import dataclass
from datetime import timedelta

from gateway.namespaces.errors import TagPatternInvalid, TreeError
from gateway.namespaces.tag_pattern import TagPattern

KEPT_LIMIT = 1_000_000
"""The largest number that `keep_n` may be."""

LONGEST_AGE = timedelta(days=36_500)

_UNITS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}
_SHORT = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "hr": "hour", "d": "day"}
_SHORT |= {"w": "week", "wk": "week", "mo": "month", "mon": "month", "y": "year", "yr": "year"}
_TERM = re.compile(r"\s*([0-9]{1,9})\s*([a-z]{1,7})\s*(?:,|and\b)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CleanupRule:
    """What is deleted of a repository. `keep`: None where no name is kept. `keep_n`: how many of the newest stay that
    the names do not keep; `older_than`: how long any stays. None where that keeps nothing."""

    delete: TagPattern
    keep: TagPattern | None = None
    keep_n: int | None = None
    older_than: timedelta | None = None


class CleanupRuleInvalid(TreeError):
    """A rule cannot be made of these texts. `parameter`: the name of the one that is wrong, as clients write it."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason


def parse_rule(
    name_regex_delete: str, name_regex_keep: str | None = None, keep_n: int | None = None, older_than: str | None = None
) -> CleanupRule:
    """Read a rule as clients write it; an empty `name_regex_keep` or `older_than` keeps nothing. Raises
    CleanupRuleInvalid."""
    if keep_n is not None and not 0 <= keep_n <= KEPT_LIMIT:
        raise CleanupRuleInvalid("keep_n", f"{keep_n} is not a number from 0 to {KEPT_LIMIT}")
    return CleanupRule(
        _parse_pattern("name_regex_delete", name_regex_delete),
        _parse_pattern("name_regex_keep", name_regex_keep) if name_regex_keep else None,
        keep_n,
        _parse_older_than(older_than) if older_than else None,
    )


def parse_age(text: str) -> timedelta:
    """Read how long ago something was, as people write it: `1h`, `7d`, `2 days`, `1month`, `1 week 2 days`. A month has
    30 days, and a year 365. Raises ValueError."""
    total, place = timedelta(0), 0
    lowered = text.lower().rstrip()
    while place < len(lowered):
        term = _TERM.match(lowered, place)
        unit = term and _unit_of(term[2])
        if term is None or unit is None:
            raise ValueError(f"{text[:60]!r} is not an age such as 1h, 7d, 2 days or 1month")
        count = int(term[1])
        if count > LONGEST_AGE / unit or (total := total + count * unit) > LONGEST_AGE:
            raise ValueError(f"{text[:60]!r} is longer ago than {LONGEST_AGE.days} days")
        place = term.end()
    if not lowered.strip():
        raise ValueError("an age needs a number and a unit, such as 7d")
    return total


def _parse_pattern(parameter: str, text: str) -> TagPattern:
    try:
        return TagPattern.parse(text)
    except TagPatternInvalid as error:
        raise CleanupRuleInvalid(parameter, str(error)) from error


def _parse_older_than(text: str) -> timedelta:
    try:
        return parse_age(text)
    except ValueError as error:
        raise CleanupRuleInvalid("older_than", str(error)) from error


def _unit_of(word: str) -> timedelta | None:
    """The unit of a word, its plural or its abbreviation; None for any other word."""
    singular = word.removesuffix("s") if len(word) > 1 else word
    return _UNITS.get(_SHORT.get(word) or _SHORT.get(singular) or singular)
