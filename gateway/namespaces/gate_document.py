"""JSON document of a group's gate, as the database stores it and as people read it."""

from datetime import timedelta
from typing import Any

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import CooldownAction, Gate, Pin


def gate_to_document(gate: Gate) -> dict[str, object]:
    """A document that JSON can hold; pins are sorted by upstream, image and tag."""
    return {
        "allow": list(gate.allow),
        "deny": list(gate.deny),
        "cooldown_seconds": int(gate.cooldown.total_seconds()),
        "cooldown_action": gate.action.value,
        "trusts_created": gate.trusts_created,
        "pins": [
            {"upstream": pin.upstream, "image": str(pin.image), "tag": str(pin.tag), "digest": str(pin.digest)}
            for pin in sorted(gate.pins, key=lambda pin: (pin.upstream, pin.image.text, pin.tag.text))
        ],
    }


def gate_from_document(document: dict[str, Any]) -> Gate:
    """The gate that `gate_to_document` made the document of."""
    return Gate(
        tuple(document["allow"]),
        tuple(document["deny"]),
        timedelta(seconds=document["cooldown_seconds"]),
        CooldownAction(document["cooldown_action"]),
        document["trusts_created"],
        tuple(
            Pin(pin["upstream"], RepositoryName(pin["image"]), Tag(pin["tag"]), Digest.parse(pin["digest"]))
            for pin in document["pins"]
        ),
    )
