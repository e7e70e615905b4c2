"""Gate: what a group lets through, decided at manifest time; pure. Nothing here asks anybody."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import in_words
from cache.values import Sighting

GLOB = re.compile(r"[a-z0-9._*?\[\]!-][a-z0-9._/*?\[\]!-]*")
_CREATED = "org.opencontainers.image.created"
_FIRST_IMAGES = datetime(2013, 1, 1, tzinfo=UTC)
"""Reproducible builds say 1970 and the like, which is no date."""


class CooldownAction(StrEnum):
    """What becomes of a tag that moved too lately: the last digest that is old enough, or a refusal."""

    OLDER = "older"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """What a tag means, whatever the upstream says."""

    upstream: str
    image: RepositoryName
    tag: Tag
    digest: Digest


@dataclass(frozen=True, slots=True)
class Gate:
    """`allow` and `deny` are globs on image names, with or without the upstream before it; no `allow` allows all.

    `trusts_created`: a date that the publisher wrote counts as the beginning of an age, too.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    cooldown: timedelta = timedelta(0)
    action: CooldownAction = CooldownAction.OLDER
    trusts_created: bool = False
    pins: tuple[Pin, ...] = ()

    def pins_of(self, upstream: str, image: RepositoryName) -> dict[Tag, Digest]:
        return {pin.tag: pin.digest for pin in self.pins if (pin.upstream, pin.image) == (upstream, image)}


OPEN = Gate()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`digest`: what is served for a tag; None for other questions, and where nothing is."""

    allowed: bool
    reason: str
    digest: Digest | None = None


def short_names(upstream: str, image: RepositoryName) -> list[str]:
    """As people write an official image of Docker Hub, which is `library/alpine` by its full name."""
    short = image.text.removeprefix("library/")
    return [short] if upstream == "docker.io" and short != image.text else []


def decide_image(gate: Gate, upstream: str, image: RepositoryName) -> Verdict:
    """All of an image or nothing of it; deny wins."""
    names = (image.text, f"{upstream}/{image.text}", *short_names(upstream, image))
    if glob := _matching(gate.deny, names):
        return Verdict(False, f"the group denies {glob}, which {names[1]} matches")
    if not gate.allow:
        return Verdict(True, "the group denies nothing of this name")
    if glob := _matching(gate.allow, names):
        return Verdict(True, f"the group allows {glob}")
    return Verdict(False, f"the group allows only {', '.join(gate.allow)}, and {names[1]} matches none of it")


def decide_tag(
    gate: Gate, tag: Tag, current: Digest, sightings: Iterable[Sighting], created: datetime | None, now: datetime
) -> Verdict:
    """What a tag that points to `current` is answered with; of `sightings` those under this tag count.

    Age is the time since this server first saw the digest under the tag, or since `created`, where that is given.
    """
    seen = {sighting.digest: sighting for sighting in sightings if sighting.tag == tag}
    since = _since(seen[current].first_seen if current in seen else now, created, now)
    if now - since >= gate.cooldown:
        return Verdict(True, f"{current} is {in_words(now - since)} old", current)
    why = (
        f"{tag} points to {current} only for {in_words(now - since)}, and the group waits {in_words(gate.cooldown)}: "
        f"until {(since + gate.cooldown).isoformat(timespec='seconds')}"
    )
    if gate.action is CooldownAction.REFUSE:
        return Verdict(False, why)
    ripe = [s for s in seen.values() if s.digest != current and now - s.first_seen >= gate.cooldown]
    if not ripe:
        return Verdict(False, f"{why}; no older digest of this tag is known")
    older = max(ripe, key=lambda sighting: sighting.last_seen).digest
    return Verdict(True, f"{why}; it is answered with {older}, which it meant before", older)


def withheld(
    gate: Gate,
    sightings: Iterable[Sighting],
    created: Mapping[Digest, datetime],
    pinned: Iterable[Digest],
    now: datetime,
) -> set[Digest]:
    """Digests that were seen under tags, but under no tag for long enough, and that no pin names."""
    ripe: set[Digest] = set(pinned)
    seen: set[Digest] = set()
    for sighting in sightings:
        seen.add(sighting.digest)
        if now - _since(sighting.first_seen, created.get(sighting.digest), now) >= gate.cooldown:
            ripe.add(sighting.digest)
    return seen - ripe


def annotated_creation(manifest: Manifest) -> datetime | None:
    """When its publisher says that it was made: by its own annotation, else by the newest of an index's entries."""
    document = json.loads(manifest.raw)
    own = _moment(_annotation(document))
    if own is not None:
        return own
    entries = document.get("manifests") if manifest.children else None
    moments = [_moment(_annotation(entry)) for entry in entries or ()]
    return max((moment for moment in moments if moment is not None), default=None)


def configured_creation(config: bytes) -> datetime | None:
    """The same by the config of an image (image-spec, "config.md")."""
    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        return None
    return _moment(document.get("created")) if isinstance(document, dict) else None


def _since(first_seen: datetime, created: datetime | None, now: datetime) -> datetime:
    return min(first_seen, created) if created is not None and created <= now else first_seen


def _annotation(node: object) -> object:
    annotations = node.get("annotations") if isinstance(node, dict) else None
    return annotations.get(_CREATED) if isinstance(annotations, dict) else None


def _moment(text: object) -> datetime | None:
    """Of RFC 3339; None for what is none, or is no date that an image can have."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None and moment >= _FIRST_IMAGES else None


def _matching(globs: Iterable[str], names: Iterable[str]) -> str | None:
    return next((glob for glob in globs for name in names if fnmatchcase(name, glob)), None)
