"""AuditDocuments: events of the audit log as GitLab's API shows them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.api.documents import moment
from gateway.audit.event import AuditEvent, EventKind, Subject
from gateway.audit.file import WrittenEvent
from gateway.namespaces.node import NodeKey, prefixes_of

UNAUTHENTICATED, DEPLOY_TOKEN = -1, -2
"""Authors that are no users, by the numbers that GitLab gives them."""

_OF_DEPLOY_TOKENS = "deploy token"
_OWN_TYPE = {
    Subject.USER: "User",
    Subject.PERSONAL_TOKEN: "User",
    Subject.GROUP: "Group",
    Subject.PROJECT: "Project",
    Subject.REPOSITORY: "Project",
    Subject.MANIFEST: "Project",
    Subject.TAG: "Project",
    Subject.BLOB: "Project",
}
"""What had the subject of an event, where it is there no more."""


class AuditDocuments:
    """Writes documents of events. Nodes are those that have the paths now."""

    def paths_of(self, events: Sequence[WrittenEvent]) -> list[str]:
        """The paths whose nodes `describe` needs."""
        found: dict[str, None] = {}
        for written in events:
            event = written.event
            if event.event is not EventKind.FILL:
                found.update(dict.fromkeys(prefixes_of(event.path)))
            if event.user is not None:
                found[event.user] = None
        return list(found)

    def describe(self, written: WrittenEvent, nodes: Mapping[str, NodeKey]) -> dict[str, object]:
        """The document of an event. Its entity is the innermost node on the way to its path."""
        event = written.event
        entity_type, entity_id, entity_path = _entity(event, nodes)
        former, latter = event.ends
        details = {
            "author_name": event.who,
            "custom_message": _sentence(event),
            "entity_path": entity_path,
            "target_id": event.target or event.path,
            "target_type": event.subject.value.title().replace(" ", ""),
            "target_details": event.target or _named(event),
            "from": former,
            "to": latter,
            "tag": event.tag,
            "digest": event.digest,
            "surface": event.surface.value,
            "ip_address": event.client,
            "request_id": event.request_id,
        }
        return {
            "id": written.id,
            "author_id": _author(event, nodes),
            "entity_id": entity_id,
            "entity_type": entity_type,
            "entity_path": entity_path,
            "event_name": f"{event.subject.value.replace(' ', '_')}_{event.event.value}",
            "details": details,
            "created_at": moment(datetime.fromtimestamp(event.at, UTC)),
        }


def _entity(event: AuditEvent, nodes: Mapping[str, NodeKey]) -> tuple[str | None, int | None, str]:
    """The kind, the id and the path of what an event concerns."""
    if event.event is EventKind.FILL:
        upstream, _, _ = event.path.partition("/")
        return "Upstream", None, upstream
    for path in reversed(prefixes_of(event.path)):
        if (key := nodes.get(path)) is not None:
            return key.kind.value.title(), key.id, path
    return _OWN_TYPE.get(event.subject), None, event.path


def _author(event: AuditEvent, nodes: Mapping[str, NodeKey]) -> int:
    if event.who is not None and event.who.startswith(_OF_DEPLOY_TOKENS):
        return DEPLOY_TOKEN
    key = nodes.get(event.user) if event.user is not None else None
    return UNAUTHENTICATED if key is None else key.id


def _named(event: AuditEvent) -> str:
    if event.tag is not None:
        return f"{event.path}:{event.tag}"
    return event.path if event.digest is None else f"{event.path}@{event.digest}"


def _sentence(event: AuditEvent) -> str:
    which = f"{event.target} of {event.path}" if event.target is not None else _named(event)
    return f"{_DONE[event.event]} {event.subject.value} {which}"


_DONE = {
    EventKind.PULL: "Pulled",
    EventKind.PUSH: "Pushed",
    EventKind.DELETE: "Deleted",
    EventKind.FILL: "Cached",
    EventKind.MOVE: "Moved",
    EventKind.RESTORE: "Restored",
    EventKind.PIN: "Pinned",
    EventKind.EVICT: "Evicted",
    EventKind.GRANT: "Granted",
    EventKind.REVOKE: "Revoked",
    EventKind.CREATE: "Created",
    EventKind.UPDATE: "Changed",
}
