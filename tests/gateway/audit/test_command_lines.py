"""CommandLines: what commands did, as lines of a server's log."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cache.runtime.locks import ProcessRole
from gateway.audit.command_lines import FAILED_SECONDS, LOOK_SECONDS, CommandLines
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.file import AuditFile
from tests.gateway.audit.samples import DIGEST, delete, pull
from tests.gateway.audit.test_file import KEEP, NOW

WHO = {"who": "command of root", "surface": "command", "log_level": "info"}
TAG = delete(NOW)._replace(subject=Subject.TAG, tag="v1", digest=DIGEST)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def lines(path: Path) -> CommandLines:
    return CommandLines(path, ProcessRole(path.with_name("lock")))


def append(path: Path, *events: AuditEvent) -> None:
    AuditFile(path, KEEP, lambda: NOW).append(events)


def logged(lines: CommandLines) -> list[Any]:
    with capture_logs() as captured:
        assert lines.step() == LOOK_SECONDS
    return list(captured)


def command(event: EventKind, subject: Subject, path: str, **facts: Any) -> AuditEvent:
    return AuditEvent(NOW, event, subject, Surface.COMMAND, path, who="command of root", **facts)


def test_each_event_of_a_command_is_logged_once(path: Path, lines: CommandLines) -> None:
    assert logged(lines) == []
    append(path, TAG, pull(NOW), delete(NOW), TAG._replace(surface=Surface.REGISTRY))
    assert logged(lines) == [
        {"event": "deleted", "repository": "team/app", "tag": "v1", "digest": DIGEST, **WHO},
        {"event": "deleted", "repository": "team/app", "tag": None, "digest": None, **WHO},
    ]
    assert logged(lines) == []
    append(
        path,
        command(EventKind.RESTORE, Subject.TAG, "team/app", tag="v1", digest=DIGEST, former="x"),
        command(EventKind.MOVE, Subject.GROUP, "build/team", former="team"),
        command(EventKind.UPDATE, Subject.MEMBER, "team", target="alice"),
        command(EventKind.DELETE, Subject.USER, "bob"),
        command(EventKind.PIN, Subject.PROJECT, "team/app", former="x", outcome="2026-03-04T00:00:00Z"),
    )
    assert logged(lines) == [
        {"event": "restored", "repository": "team/app", "tag": "v1", "digest": DIGEST, **WHO},
        {"event": "moved", "kind": "group", "old": "team", "new": "build/team", **WHO},
        {"event": "changed", "change": "update", "kind": "member", "path": "team", "target": "alice", **WHO},
        {"event": "changed", "change": "delete", "kind": "user", "path": "bob", "target": None, **WHO},
        {"event": "pinned", "kind": "project", "path": "team/app", "as_of": "2026-03-04T00:00:00Z", **WHO},
    ]


def test_what_was_done_before_is_not_logged(path: Path, lines: CommandLines) -> None:
    append(path, delete(NOW))
    assert logged(lines) == []
    append(path, TAG)
    assert [line["tag"] for line in logged(lines)] == ["v1"]


def test_a_log_that_was_begun_anew_is_read_from_its_beginning(path: Path, lines: CommandLines) -> None:
    append(path, delete(NOW), delete(NOW))
    assert logged(lines) == []
    path.unlink()
    append(path, TAG)
    assert [line["tag"] for line in logged(lines)] == ["v1"]


def test_a_log_that_cannot_be_read_is_tried_again_later(path: Path, lines: CommandLines) -> None:
    path.write_bytes(b"no database at all" * 1000)
    with capture_logs() as captured:
        assert lines.step() == FAILED_SECONDS
    assert captured == [], "whoever writes the audit log tells of it"
