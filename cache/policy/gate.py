"""Gate: what a group lets through: names, tags and digests of images. Pure decisions over facts that the caller
provides.

Enforcement and explanation call the same functions with the same facts, so what is explained is what is served.
"""

from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import parse_document
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import in_words
from cache.values import ANCESTORS_READ, Ancestor, Sighting

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

CONFIG_LIMIT = 1024 * 1024
"""Bytes of an image's config that are read for its date."""

DATES_READ = 50
"""Number of manifests of which the date is read for one request by digest; none of them may be cached."""

IMAGE_GLOB = r"^(?:[a-z0-9._*?-]|\[!?[a-z0-9._-]+\])(?:[a-z0-9._/*?-]|\[!?[a-z0-9._-]+\])*$"
"""A glob that some image name matches: one with a bracket that does not end matches none."""

LONGEST_COOLDOWN = timedelta(days=365)
"""The index remembers for longer than this when it first saw a digest under a tag."""

_CREATED = "org.opencontainers.image.created"
_FIRST_IMAGES = datetime(2013, 1, 1, tzinfo=UTC)
"""Reproducible builds are dated 1970 and the like, which is no date."""


class CooldownAction(StrEnum):
    """Content served for a tag that moved too recently: its last digest that is old enough, or none."""

    OLDER = "older"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """A tag fixed to a digest, whatever it points to upstream."""

    upstream: str
    image: RepositoryName
    tag: Tag
    digest: Digest


@dataclass(frozen=True, slots=True)
class Gate:
    """`allow` and `deny` are globs on image names, with or without the upstream before it; no `allow` allows all.

    `cooldown`: how long a tag must have pointed to a digest. `trusts_created`: the age may also begin at the date that
    the publisher wrote into the image.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    cooldown: timedelta = timedelta(0)
    action: CooldownAction = CooldownAction.OLDER
    trusts_created: bool = False
    pins: tuple[Pin, ...] = ()

    def pins_of(self, upstream: str, image: RepositoryName) -> dict[Tag, Digest]:
        """The pinned tags of one image."""
        return {pin.tag: pin.digest for pin in self.pins if (pin.upstream, pin.image) == (upstream, image)}


OPEN = Gate()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and its reason. `digest`: the content served for a tag; None for images, digests and refusals."""

    allowed: bool
    reason: str
    digest: Digest | None = None


def decide_image(gate: Gate, upstream: str, image: RepositoryName, short_names: Sequence[str] = ()) -> Verdict:
    """Decide about a whole image by its name; deny wins. `short_names`: other names that people write for it."""
    names = (image.text, f"{upstream}/{image.text}", *short_names)
    if glob := _matching(gate.deny, names):
        return Verdict(False, f"the group denies {glob}, which {names[1]} matches")
    if not gate.allow:
        return Verdict(True, "the group denies nothing of this name")
    if glob := _matching(gate.allow, names):
        return Verdict(True, f"the group allows {glob}")
    return Verdict(False, f"the group allows only {', '.join(gate.allow)}, and {names[1]} matches none of it")


def conclude(decision: Generator[Question, Answer, Result], look_up: Callable[[Question], Answer]) -> Result:
    """Run a decision to its end, and look up what it needs on the way. Raises what `look_up` raises."""
    try:
        question = next(decision)
        while True:
            question = decision.send(look_up(question))
    except StopIteration as done:
        result: Result = done.value
        return result


async def conclude_async(
    decision: Generator[Question, Answer, Result], look_up: Callable[[Question], Awaitable[Answer]]
) -> Result:
    """Run a decision to its end as `conclude` does, with lookups that are awaited."""
    try:
        question = next(decision)
        while True:
            question = decision.send(await look_up(question))
    except StopIteration as done:
        result: Result = done.value
        return result


def decide_tag(
    gate: Gate, tag: Tag, current: Digest, sightings: Collection[Sighting], now: datetime
) -> Generator[Digest, datetime | None, Verdict]:
    """Decide what is served for a tag that points to `current`; only the sightings under this tag count.

    The age of a digest is the longest time for which this server saw the tag point to it and to no other in between,
    or the time since the publisher's date, if that is longer. Yields `current` where its date may change the verdict,
    and is sent the date; None if there is none.
    """
    verdict = _decide_tag_by(gate, tag, current, sightings, None, now)
    if verdict.digest == current or not gate.trusts_created:
        return verdict
    created = yield current
    return _decide_tag_by(gate, tag, current, sightings, created, now)


def _decide_tag_by(
    gate: Gate, tag: Tag, current: Digest, sightings: Iterable[Sighting], created: datetime | None, now: datetime
) -> Verdict:
    seen = {sighting.digest: sighting for sighting in sightings if sighting.tag == tag}
    known = seen.pop(current, None)
    unbroken = known is not None and all(other.last_seen <= known.last_seen for other in seen.values())
    since = _since(known.first_seen if known and unbroken else now, created, now)
    age = max(now - since, known.longest if known else timedelta(0))
    if age >= gate.cooldown:
        return Verdict(True, f"{current} is {in_words(age)} old", current)
    why = (
        f"{tag} has pointed to {current} for only {in_words(now - since)}, and the group waits "
        f"{in_words(gate.cooldown)}: until {(since + gate.cooldown).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    )
    if gate.action is CooldownAction.REFUSE:
        return Verdict(False, why)
    ripe = [s for s in seen.values() if max(s.longest, s.last_seen - s.first_seen) >= gate.cooldown]
    ripe = ripe or [s for s in seen.values() if now - s.first_seen >= gate.cooldown]  # of a tag that is rarely pulled
    if not ripe:
        return Verdict(False, f"{why}; no older digest of this tag is known")
    older = max(ripe, key=lambda sighting: sighting.last_seen).digest
    return Verdict(True, f"{why}; {older} is served, which it pointed to before", older)


def decide_digest(
    gate: Gate, digest: Digest, ancestors: Collection[Ancestor], pinned: Collection[Digest], now: datetime
) -> Generator[Digest, datetime | None, Verdict]:
    """Decide about a manifest or blob by digest: refused if only manifests in their cooldown lead to it.

    `ancestors`: those of the digest in its image, itself included. `pinned`: the digests that the group's pins name.
    Yields digests whose date may change the verdict, at most DATES_READ, and is sent their dates; None if there is
    none.
    """
    young = withheld(gate, ancestors, pinned, now)
    if not young:
        return Verdict(True, "no tag in its cooldown leads to it")
    kept_back = _below(young, ancestors)
    incomplete = len(ancestors) >= ANCESTORS_READ  # what leads to a manifest may be among those that are not listed
    for ancestor in ancestors:
        if ancestor.digest not in kept_back and ancestor.first_seen is None and not incomplete:
            return Verdict(True, "a manifest that the group may pull by digest leads to it")
        if ancestor.digest not in young and (ancestor.first_seen is not None or ancestor.digest in pinned):
            return Verdict(True, "a manifest that the group may pull leads to it")
    for undated in list(young)[:DATES_READ] if gate.trusts_created else ():
        created = yield undated
        if now - _since(now, created, now) >= gate.cooldown:
            return Verdict(True, "a manifest that the group may pull leads to it")
    return Verdict(False, f"{digest} is only part of what the group still waits for (its cooldown)")


def withheld(
    gate: Gate, ancestors: Iterable[Ancestor], pinned: Collection[Digest], now: datetime
) -> dict[Digest, Ancestor]:
    """Find the ancestors that were seen under tags, but under no tag for long enough, and that no pin names; there are
    none without a cooldown.

    The order is that of the ancestors.
    """
    return {
        ancestor.digest: ancestor
        for ancestor in ancestors
        if ancestor.first_seen is not None
        and ancestor.digest not in pinned
        and max(now - ancestor.first_seen, ancestor.longest) < gate.cooldown
    }


def _below(roots: Iterable[Digest], ancestors: Iterable[Ancestor]) -> set[Digest]:
    """The roots and what they lead to, as far as it is among the ancestors."""
    children: dict[Digest, list[Digest]] = {}
    for ancestor in ancestors:
        if ancestor.child is not None:
            children.setdefault(ancestor.digest, []).append(ancestor.child)
    found, pending = set(roots), list(roots)
    while pending:
        fresh = set(children.get(pending.pop(), ())) - found
        found |= fresh
        pending += fresh
    return found


def annotated_creation(manifest: Manifest) -> datetime | None:
    """The creation date by the manifest's own annotation, else the newest of an index's entries; None without one."""
    document = parse_document(manifest.raw)
    own = _moment(_annotation(document))
    if own is not None:
        return own
    entries = document.get("manifests") if manifest.children else None
    moments = [_moment(_annotation(entry)) for entry in entries or ()]
    return max((moment for moment in moments if moment is not None), default=None)


def configured_creation(config: bytes) -> datetime | None:
    """The creation date in the config of an image (image-spec, "config.md"); None without one."""
    try:
        document = parse_document(config)
    except ValueError:
        return None
    return _moment(document.get("created")) if isinstance(document, dict) else None


def find_creation(manifest: Manifest) -> Generator[Descriptor, Manifest | bytes | None, datetime | None]:
    """Find when an image was made: by annotations, else by the config of the image, or of an index's first image.

    Yields a descriptor of a manifest or a config, and is sent the document; None if it cannot be had.
    """
    moment = annotated_creation(manifest)
    if moment is None and manifest.children:
        child = manifest.children[0]
        document = (yield child) if child.is_manifest else None
        if not isinstance(document, Manifest) or document.children:
            return None
        manifest, moment = document, annotated_creation(document)
    if moment is not None or manifest.config is None or manifest.config.size > CONFIG_LIMIT:
        return moment
    config = yield manifest.config
    return configured_creation(config) if isinstance(config, bytes) else None


def _since(first_seen: datetime, created: datetime | None, now: datetime) -> datetime:
    return min(first_seen, created) if created is not None and created <= now else first_seen


def _annotation(node: object) -> object:
    annotations = node.get("annotations") if isinstance(node, dict) else None
    return annotations.get(_CREATED) if isinstance(annotations, dict) else None


def _moment(text: object) -> datetime | None:
    """Parse an RFC 3339 date; None if it is none, or none that an image can have."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None and moment >= _FIRST_IMAGES else None


def _matching(globs: Iterable[str], names: Iterable[str]) -> str | None:
    return next((glob for glob in globs for name in names if fnmatchcase(name, glob)), None)
