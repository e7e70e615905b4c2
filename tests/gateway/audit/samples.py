"""Events for tests."""

from typing import Any

from gateway.audit.event import AuditEvent, EventKind, Subject, Surface

DIGEST = f"sha256:{'a' * 64}"


def pull(at: float, path: str = "team/app", **facts: Any) -> AuditEvent:
    """A pull of `latest` by alice."""
    known = {"tag": "latest", "digest": DIGEST, "who": "user 'alice'", "user": "alice", "client": "192.0.2.7"}
    return AuditEvent(at, EventKind.PULL, Subject.MANIFEST, Surface.REGISTRY, path, **{**known, **facts})


def delete(at: float, path: str = "team/app") -> AuditEvent:
    """A deletion of a repository by a command."""
    return AuditEvent(at, EventKind.DELETE, Subject.REPOSITORY, Surface.COMMAND, path, who="command of root")
