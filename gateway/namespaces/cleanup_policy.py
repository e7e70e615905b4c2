"""CleanupPolicy: what a project lets be deleted of its repositories at intervals. Its values are those of GitLab."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from gateway.namespaces.cleanup_rule import CleanupRule, CleanupRuleInvalid, parse_rule
from gateway.namespaces.tag_pattern import EVERYTHING, PATTERN_LIMIT

KEPT_NUMBERS = (1, 5, 10, 25, 50, 100)
AGES = ("7d", "14d", "30d", "60d", "90d")


class Cadence(StrEnum):
    """How often a policy runs; a month has 30 days."""

    DAY = "1d"
    WEEK = "7d"
    FORTNIGHT = "14d"
    MONTH = "1month"
    QUARTER = "3month"

    @property
    def span(self) -> timedelta:
        """The time from one run to the next."""
        return timedelta(days=_DAYS[self])


_DAYS = {Cadence.DAY: 1, Cadence.WEEK: 7, Cadence.FORTNIGHT: 14, Cadence.MONTH: 30, Cadence.QUARTER: 90}


@dataclass(frozen=True, slots=True)
class CleanupPolicy:
    """A policy as it is stored, by GitLab's names; the defaults are those of its pages. None in `keep_n`, `older_than`
    and `name_regex_keep` keeps nothing."""

    enabled: bool = False
    cadence: Cadence = Cadence.DAY
    keep_n: int | None = 10
    older_than: str | None = "90d"
    name_regex_delete: str = EVERYTHING
    name_regex_keep: str | None = None

    def rule(self) -> CleanupRule:
        """The rule by which tags are judged. Raises CleanupRuleInvalid."""
        return parse_rule(self.name_regex_delete, self.name_regex_keep, self.keep_n, self.older_than)


def check_policy(policy: CleanupPolicy) -> None:
    """Check a policy before it is stored; the patterns of a disabled one may be wrong. Raises CleanupRuleInvalid."""
    if policy.keep_n is not None and policy.keep_n not in KEPT_NUMBERS:
        raise CleanupRuleInvalid("keep_n", f"{policy.keep_n} is not in the list: use {_listed(KEPT_NUMBERS)} or none")
    if policy.older_than is not None and policy.older_than not in AGES:
        raise CleanupRuleInvalid("older_than", f"{policy.older_than!r} is not in the list: use {_listed(AGES)} or none")
    patterns = {"name_regex_delete": policy.name_regex_delete, "name_regex_keep": policy.name_regex_keep or ""}
    for parameter, text in patterns.items():
        if len(text) > PATTERN_LIMIT:
            raise CleanupRuleInvalid(parameter, f"a pattern has at most {PATTERN_LIMIT} characters, not {len(text)}")
    if policy.enabled:
        policy.rule()


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values))
