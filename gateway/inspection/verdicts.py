"""Gate verdicts: decisions of a group's gate about an image, from cached facts alone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cache.index.admin import CacheAdmin
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import (
    Gate,
    Verdict,
    conclude,
    decide_digest,
    decide_image,
    decide_tag,
    find_creation,
)
from cache.values import Source
from gateway.known_registries import short_names
from gateway.namespaces.locate import ProxiedLocation

ReadBlob = Callable[[Digest], bytes | None]


class GateState(StrEnum):
    """The outcome of a gate's decision; `unknown` where it depends on content that is not cached."""

    OPEN = "open"
    ALLOWED = "allowed"
    PINNED = "pinned"
    OLDER = "older"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """A gate's decision about the next pull, with its reason in a sentence."""

    state: GateState
    reason: str


def explain_gate(
    location: ProxiedLocation,
    source: Source,
    reference: Tag | Digest,
    admin: CacheAdmin,
    read_blob: ReadBlob,
    now: datetime,
) -> GateVerdict:
    """Decide about the next pull as a server does. `read_blob` returns the content of a cached blob, else None."""
    gate, image = location.group.gate, location.image
    if gate is None:
        return GateVerdict(GateState.OPEN, f"group {location.group.path} has no gate")
    verdict = decide_image(gate, location.upstream, image, short_names(location.upstream, image))
    pins = gate.pins_of(location.upstream, image)
    if isinstance(reference, Tag) and verdict.allowed and reference in pins:
        return GateVerdict(GateState.PINNED, f"the group pins {reference} to {pins[reference]}")
    if not verdict.allowed or not gate.cooldown:
        return _verdict(verdict)
    facts = _CachedFacts(gate, source, image, admin, read_blob, now)
    if isinstance(reference, Tag):
        return facts.decide_tag(reference)
    return facts.decide_digest(reference, set(pins.values()))


class _CachedFacts:
    """The facts of a gate's decisions, looked up in the cache."""

    def __init__(
        self,
        gate: Gate,
        source: Source,
        image: RepositoryName,
        admin: CacheAdmin,
        read_blob: ReadBlob,
        now: datetime,
    ) -> None:
        self._gate = gate
        self._source = source
        self._image = image
        self._admin = admin
        self._read_blob = read_blob
        self._now = now
        self._incomplete = False

    def decide_tag(self, tag: Tag) -> GateVerdict:
        pointer = next((p for p in self._admin.pointers(self._source, self._image) if p.tag == tag), None)
        if pointer is None:
            reason = "this tag has not been pulled yet: its age is counted from the first pull"
            return GateVerdict(GateState.UNKNOWN, reason)
        current = pointer.target.digest
        sightings = self._admin.sightings(self._source, self._image, tag)
        verdict = conclude(decide_tag(self._gate, tag, current, sightings, self._now), self._creation)
        if verdict.digest == current:
            return GateVerdict(GateState.ALLOWED, verdict.reason)
        return self._unless_incomplete(verdict, GateState.REFUSED if verdict.digest is None else GateState.OLDER)

    def decide_digest(self, digest: Digest, pinned: set[Digest]) -> GateVerdict:
        ancestors = self._admin.ancestors(self._source, self._image, digest)
        verdict = conclude(decide_digest(self._gate, digest, ancestors, pinned, self._now), self._creation)
        return _verdict(verdict) if verdict.allowed else self._unless_incomplete(verdict, GateState.REFUSED)

    def _unless_incomplete(self, verdict: Verdict, state: GateState) -> GateVerdict:
        if not self._incomplete:
            return GateVerdict(state, verdict.reason)
        reason = "the publisher's date is in a config that is not cached: the next pull reads it, and then decides"
        return GateVerdict(GateState.UNKNOWN, reason)

    def _creation(self, digest: Digest) -> datetime | None:
        manifest = self._admin.manifest(digest)
        if manifest is None:
            return None
        return conclude(find_creation(manifest), self._document)

    def _document(self, descriptor: Descriptor) -> Manifest | bytes | None:
        find: Callable[[Digest], Manifest | bytes | None]
        find = self._admin.manifest if descriptor.is_manifest else self._read_blob
        document = find(descriptor.digest)
        self._incomplete = self._incomplete or document is None
        return document


def _verdict(verdict: Verdict) -> GateVerdict:
    return GateVerdict(GateState.ALLOWED if verdict.allowed else GateState.REFUSED, verdict.reason)
