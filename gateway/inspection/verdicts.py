"""What the gate of a group says about an image, from what is cached alone: for `cache explain`."""

from datetime import UTC, datetime

from cache.index.admin import CacheAdmin
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import Gate, annotated_creation, decide_image, decide_tag, withheld
from cache.values import Source
from gateway.namespaces.locate import ProxiedLocation

Said = tuple[str, str]
"""open, allowed, pinned, older, refused or unknown; and why."""


def explain_gate(location: ProxiedLocation, source: Source, reference: Tag | Digest, inventory: CacheAdmin) -> Said:
    gate, image = location.group.gate, location.image
    if gate is None:
        return "open", f"group {location.group.path} has no gate"
    verdict = decide_image(gate, location.upstream, image)
    if not verdict.allowed:
        return "refused", verdict.reason
    pins = gate.pins_of(location.upstream, image)
    if isinstance(reference, Tag) and reference in pins:
        return "pinned", f"the group pins {reference} to {pins[reference]}"
    if not gate.cooldown:
        return "allowed", verdict.reason
    if isinstance(reference, Tag):
        return _explain_tag(gate, source, image, reference, inventory)
    return _explain_digest(gate, source, image, reference, set(pins.values()), inventory)


def _explain_tag(gate: Gate, source: Source, image: RepositoryName, tag: Tag, inventory: CacheAdmin) -> Said:
    pointer = next((p for p in inventory.pointers(source, image) if p.tag == tag), None)
    if pointer is None:
        return "unknown", "nobody has asked for this tag yet: its age is counted from the first pull"
    current = pointer.target.digest
    created = _created(gate, current, inventory)
    verdict = decide_tag(gate, tag, current, inventory.sightings(source, image), created, datetime.now(UTC))
    if verdict.digest is None:
        return "refused", verdict.reason
    return ("allowed" if verdict.digest == current else "older"), verdict.reason


def _explain_digest(
    gate: Gate, source: Source, image: RepositoryName, digest: Digest, pinned: set[Digest], inventory: CacheAdmin
) -> Said:
    sightings = inventory.sightings(source, image)
    seen = {sighting.digest for sighting in sightings}
    created = {d: moment for d in seen if (moment := _created(gate, d, inventory)) is not None}
    young = withheld(gate, sightings, created, pinned, datetime.now(UTC))
    kept_back = _closure(inventory, young)
    if digest not in kept_back:
        return "allowed", "no tag that the group still waits for leads to it"
    untagged = {d for d in inventory.linked(source, image) - kept_back if inventory.manifest(d) is not None}
    if digest in _closure(inventory, (seen | pinned | untagged) - young):
        return "allowed", "a manifest that the group may have leads to it"
    return "refused", "it is part of nothing but what the group still waits for (its cooldown)"


def _created(gate: Gate, digest: Digest, inventory: CacheAdmin) -> datetime | None:
    """By annotations alone; a server reads configs, too."""
    manifest = inventory.manifest(digest) if gate.trusts_created else None
    return annotated_creation(manifest) if manifest else None


def _closure(inventory: CacheAdmin, roots: set[Digest]) -> set[Digest]:
    return {digest for root in roots for digest in inventory.closure(root)}
