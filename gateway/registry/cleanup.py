"""Cleanup: which tags of a repository a rule deletes, and why each of the others stays. Pure, and the same for cleanup
policies and for bulk deletions.

Of the tags of a repository, the newest first:

1. the one named `latest` stays;
2. those stay whose names do not match `delete`, or match `keep`;
3. of the rest, the first `keep_n` stay, over the whole repository; one whose date is unknown counts as the newest;
4. those stay whose date is unknown, or not before `older_than` ago;
5. those stay that are protected. What is left is deleted.

The tags of the first two steps take no place among those that `keep_n` keeps, and those of the last two do (GitLab,
"How the cleanup policy works"; its registry counts `keep_n` anew for each thousand names).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.namespaces.cleanup_rule import CleanupRule

LATEST = "latest"
"""The tag that no cleanup deletes."""


def unprotected(name: str) -> str:
    """Protection by nothing."""
    return ""


class TagVerdict(StrEnum):
    """What becomes of a tag: it is deleted, or the first reason why it stays."""

    DELETED = "deleted"
    LATEST = "latest"
    OTHER_NAME = "other_name"
    """Its name does not match the pattern of those to delete."""
    KEPT_NAME = "kept_name"
    """Its name matches the pattern of those to keep."""
    NEWEST = "newest"
    """It is among the newest that are kept."""
    UNDATED = "undated"
    RECENT = "recent"
    """It is not old enough."""
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class DatedTag:
    """A tag, and when it began to point to what it points to; None where that is unknown."""

    name: str
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class JudgedTag:
    """A tag with its verdict. `rule`: what protects a protected one, in words."""

    tag: DatedTag
    verdict: TagVerdict
    rule: str = ""


class Judge:
    """Judges the tags of one repository, which come newest first, those of unknown date before all others.

    Nothing is kept of a tag that was judged. Tags that are deleted meanwhile by the verdicts of this or an earlier run
    change no verdict of the others.
    """

    def __init__(self, rule: CleanupRule, now: datetime, protection: Callable[[str], str] = unprotected) -> None:
        """`protection`: what protects the tag of a name, in words; empty where nothing does."""
        self._rule = rule
        self._limit = None if rule.older_than is None else now - rule.older_than
        self._protection = protection
        self._free = rule.keep_n or 0
        self._before: datetime | None = None

    def judge(self, tag: DatedTag) -> JudgedTag:
        """Judge the next tag. Raises ValueError for one that is newer than the one before: neither has its place."""
        date = tag.published_at
        if self._before is not None and (date is None or date > self._before):
            raise ValueError(f"tag {tag.name!r} comes after an older one")
        self._before = date
        verdict = self._by_name(tag.name) or self._by_rank() or self._by_date(date)
        if verdict is not None:
            return JudgedTag(tag, verdict)
        protected = self._protection(tag.name)
        return JudgedTag(tag, TagVerdict.PROTECTED if protected else TagVerdict.DELETED, protected)

    def _by_name(self, name: str) -> TagVerdict | None:
        if name == LATEST:
            return TagVerdict.LATEST
        if not self._rule.delete.matches(name):
            return TagVerdict.OTHER_NAME
        keep = self._rule.keep
        return TagVerdict.KEPT_NAME if keep is not None and keep.matches(name) else None

    def _by_rank(self) -> TagVerdict | None:
        if not self._free:
            return None
        self._free -= 1
        return TagVerdict.NEWEST

    def _by_date(self, date: datetime | None) -> TagVerdict | None:
        if date is None:
            return TagVerdict.UNDATED
        return TagVerdict.RECENT if self._limit is not None and date >= self._limit else None
