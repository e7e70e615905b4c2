"""How long what an upstream said about a tag is good for, and the words for what is served past that; pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from fnmatch import fnmatchcase

from cache.oci.names import RepositoryName, Tag
from cache.values import Origin, Source, TagPointer


class Freshness(Enum):
    FRESH = "fresh"
    REVALIDATE = "revalidate"
    MISS = "miss"


@dataclass(frozen=True, slots=True)
class TagRule:
    """For tags that match `tags`, of images that match `images` (globs, in which `*` crosses slashes), of one origin
    or of all. `fresh_only`: never served stale."""

    tags: str
    ttl: timedelta
    images: str = "*"
    origin: Origin | None = None
    fresh_only: bool = False

    def covers(self, source: Source, image: RepositoryName, tag: Tag) -> bool:
        return (
            fnmatchcase(tag.text, self.tags)
            and fnmatchcase(image.text, self.images)
            and self.origin in (None, source.origin)
        )


@dataclass(frozen=True, slots=True)
class TagRules:
    """`ttl` is for tags that no rule covers; of the others the first rule counts. `negative_ttl`: how long an
    upstream's word that there is no such manifest is good for."""

    ttl: timedelta
    grace: timedelta
    rules: tuple[TagRule, ...] = ()
    negative_ttl: timedelta = timedelta(0)
    _otherwise: TagRule = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_otherwise", TagRule("*", self.ttl))

    def rule(self, source: Source, image: RepositoryName, tag: Tag) -> TagRule:
        for rule in self.rules:
            if rule.covers(source, image, tag):
                return rule
        return self._otherwise


def freshness(pointer: TagPointer | None, now: datetime, ttl: timedelta) -> Freshness:
    if pointer is None:
        return Freshness.MISS
    return Freshness.FRESH if now - pointer.checked_at < ttl else Freshness.REVALIDATE


def may_be_stale(pointer: TagPointer, now: datetime, ttl: timedelta, grace: timedelta) -> bool:
    """Whether the pointer may be served although the upstream cannot confirm it (RFC 5861, stale-if-error)."""
    return now - pointer.checked_at < ttl + grace


def stale_warning(pointer: TagPointer, reason: str, failing_since: datetime | None, now: datetime) -> str:
    """For a person who reads the Warning header: which upstream, how old, why, and since when."""
    host, confirmed = pointer.source.origin.host, pointer.checked_at
    age = in_words(now - confirmed)
    text = f"served from cache: last confirmed by {host} {age} ago, at {_moment(confirmed)}; {reason}"
    return text if failing_since is None else f"{text}; it fails since {_moment(failing_since)}"


def fresh_only_refusal(pointer: TagPointer, reason: str) -> str:
    """Why what is here is not served: somebody wants to hear it from the upstream."""
    return (
        f"{pointer.tag} was last confirmed at {_moment(pointer.checked_at)} and is here, but only what "
        f"{pointer.source.origin.host} confirms now may be served (fresh-only): {reason}"
    )


def in_words(duration: timedelta) -> str:
    """To the unit that matters: `40 s`, `12 min`, `5 h`, `3 days`."""
    seconds = max(0, int(duration.total_seconds()))
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
