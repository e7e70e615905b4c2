"""Freshness of tag pointers: how long an upstream's word on a tag holds, and what may be served after that; pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from fnmatch import fnmatchcase

from cache.oci.names import RepositoryName, Tag
from cache.values import Registry, Source, TagPointer

SAVING_FACTOR = 10
"""Factor by which the ttl of tags is extended while little is left of a limit that also counts requests for tags."""


class Freshness(Enum):
    """Freshness of a tag's pointer, which decides how the tag is served.

    MISS: there is no pointer. FRESH: served without a request to the upstream. REVALIDATE: the upstream should confirm
    it, and where it fails the pointer may be served stale. EXPIRED: served only if the upstream confirms it.
    """

    MISS = "miss"
    FRESH = "fresh"
    REVALIDATE = "revalidate"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class TagRule:
    """A rule for tags that match `tags`, of images that match `images` (globs, in which `*` crosses slashes), of one
    registry or of all. `fresh_only`: never served stale."""

    tags: str
    ttl: timedelta
    images: str = "*"
    registry: Registry | None = None
    fresh_only: bool = False

    def covers(self, source: Source, image: RepositoryName, tag: Tag) -> bool:
        return (
            fnmatchcase(tag.text, self.tags)
            and fnmatchcase(image.text, self.images)
            and self.registry in (None, source.registry)
        )


@dataclass(frozen=True, slots=True)
class TagRules:
    """Rules for all tags: the first rule that covers a tag counts, and `ttl` where none does.

    `negative_ttl`: for how long an upstream's word that a manifest does not exist holds.
    """

    ttl: timedelta
    grace: timedelta
    rules: tuple[TagRule, ...] = ()
    negative_ttl: timedelta = timedelta(0)
    _otherwise: TagRule = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_otherwise", TagRule("*", self.ttl))

    def rule(self, source: Source, image: RepositoryName, tag: Tag) -> TagRule:
        """The rule that counts for a tag."""
        for rule in self.rules:
            if rule.covers(source, image, tag):
                return rule
        return self._otherwise


def is_fresh_only(rule: TagRule, group_fresh_only: bool) -> bool:
    """Whether a tag is never served stale, since its rule or the group demands that the upstream confirms it."""
    return rule.fresh_only or group_fresh_only


def decide(
    pointer: TagPointer | None, now: datetime, rule: TagRule, grace: timedelta, *, group_fresh_only: bool = False
) -> Freshness:
    """Decide how a tag is served. A pointer of the future was dated by a clock that was wrong, and is never fresh.

    `grace`: for how long past its ttl a pointer may be served stale where the upstream
    cannot confirm it (RFC 5861, stale-if-error); a tag that is fresh-only has none."""
    if pointer is None:
        return Freshness.MISS
    age = now - pointer.checked_at
    if timedelta(0) <= age < rule.ttl:
        return Freshness.FRESH
    may_be_stale = age < rule.ttl + grace and not is_fresh_only(rule, group_fresh_only)
    return Freshness.REVALIDATE if may_be_stale else Freshness.EXPIRED


def fresh_while_saving(pointer: TagPointer, now: datetime, rule: TagRule) -> bool:
    """Whether a pointer past its ttl is served without a request, while little is left of an upstream's limit."""
    return timedelta(0) <= now - pointer.checked_at < rule.ttl * SAVING_FACTOR


def stale_warning(pointer: TagPointer, reason: str, failing_since: datetime | None, now: datetime) -> str:
    """Text of the Warning header for a tag."""
    return stale_warning_of(pointer.source.origin.netloc, pointer.checked_at, reason, failing_since, now)


def stale_warning_of(host: str, confirmed: datetime, reason: str, failing_since: datetime | None, now: datetime) -> str:
    """Text of the Warning header, for people: which upstream, how old the confirmation is, why, and since when."""
    age = in_words(now - confirmed) if confirmed <= now else "an unknown time"
    when = f"{age} ago, at {_moment(confirmed)}"
    text = f"served from cache: last confirmed by {host} {when}; {reason}"
    return text if failing_since is None else f"{text}; failing since {_moment(failing_since)}"


def fresh_only_refusal(pointer: TagPointer, reason: str) -> str:
    """Text of the error where a cached tag is not served because only confirmed tags may be (`fresh_only`)."""
    return (
        f"{pointer.tag} is cached and was last confirmed at {_moment(pointer.checked_at)}, but only what "
        f"{pointer.source.origin.netloc} confirms now may be served (fresh-only): {reason}"
    )


def in_words(duration: timedelta) -> str:
    """A duration in the largest unit of which there are two or more: `40 s`, `12 min`, `5 h`, `3 days`."""
    seconds = max(0, int(duration.total_seconds()))
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
