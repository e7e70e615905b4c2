"""How the gate of a group is written down: one JSON document, read as a whole; nothing where it is open."""

import json
from datetime import timedelta
from typing import Any

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import OPEN, CooldownAction, Gate, Pin


def write_gate(gate: Gate | None) -> str | None:
    return None if gate is None or gate == OPEN else json.dumps(document_of(gate))


def read_gate(text: str | None) -> Gate | None:
    """None for one that lets everything through."""
    if text is None:
        return None
    document: dict[str, Any] = json.loads(text)
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


def document_of(gate: Gate) -> dict[str, object]:
    """JSON-able, for the database and for people."""
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
