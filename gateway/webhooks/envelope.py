"""Envelope: what a webhook is sent, in the form of distribution's notifications ("Notifications", "Envelope")."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC
from uuid import UUID, uuid5

from gateway.webhooks.event import RegistryEvent

MEDIA_TYPE = "application/vnd.docker.distribution.events.v1+json"

_IDS = UUID("6f4d9a3e-5d0b-4c55-9a8e-0a9d6c4c7b11")
"""Name space of the ids of events: one that is sent again has the same."""


class Envelopes:
    """Writes envelopes. `url`: by which clients reach the registry; `instance`: which server it is."""

    def __init__(self, url: str, instance: str) -> None:
        self._url = url.rstrip("/")
        self._instance = instance

    def write(self, events: Sequence[RegistryEvent]) -> str:
        """The document with some events."""
        return json.dumps({"events": [self._document(event) for event in events]}, separators=(",", ":"))

    def write_all(self, events: Sequence[RegistryEvent], limit: int) -> Iterator[str]:
        """Documents with all of some events, in their order: one takes no more of them beyond a number of bytes."""
        held: list[RegistryEvent] = []
        size = 0
        for event in events:
            held.append(event)
            size += len(self.write([event]))  # ASCII
            if size > limit:
                yield self.write(held)
                held, size = [], 0
        if held:
            yield self.write(held)

    def _document(self, event: RegistryEvent) -> dict[str, object]:
        cause = event.cause
        return {
            "id": str(uuid5(_IDS, f"{self._instance}/{event.id}/{event.at.isoformat()}")),
            "timestamp": event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": event.trigger.action,
            "target": self._target(event),
            "request": {
                "id": cause.request_id or "",
                "addr": cause.address or "",
                "host": cause.host,
                "method": cause.method,
                "useragent": cause.user_agent,
            },
            "actor": {"name": cause.actor},
            "source": {"addr": self._url.partition("://")[2], "instanceID": self._instance},
        }

    def _target(self, event: RegistryEvent) -> dict[str, object]:
        """What the event was done to; what is not known is left out, as distribution leaves it out."""
        known = {"mediaType": event.media_type, "size": event.size, "digest": event.digest, "length": event.size}
        target: dict[str, object] = {name: value for name, value in known.items() if value is not None}
        target["repository"] = event.path
        if event.digest is not None and event.trigger.action in ("push", "pull"):
            target["url"] = f"{self._url}/v2/{event.path}/manifests/{event.digest}"
        if event.tag is not None:
            target["tag"] = event.tag
        return target
