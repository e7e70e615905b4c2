"""What commands make, change, delete, restore, move and pin, as events of the audit log."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.sqlite import DatabaseUnusable
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.told import differences
from gateway.cli.owner import name_of_user
from gateway.cli.refusals import complain
from gateway.db.moves import Moved
from gateway.namespaces.expiry import format_moment
from gateway.settings.tables import Settings
from gateway.wiring.values import configured_audit


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a command deleted: a repository, or a tag of it with what that pointed to."""

    path: str
    tag: Tag | None = None
    digest: Digest | None = None


def note_deletions(settings: Settings, deletions: Sequence[Deletion]) -> None:
    """Note deletions in the audit log; what it cannot take is told of on stderr, for the deletion itself is done."""
    now, who = time.time(), who_commands()
    append_events(settings, [_event(now, who, deletion) for deletion in deletions])


def note_move(settings: Settings, moved: Moved) -> None:
    """Note a move in the audit log, as `note_deletions` does a deletion."""
    subject = Subject(moved.kind.value)
    event = AuditEvent(
        time.time(), EventKind.MOVE, subject, Surface.COMMAND, moved.new, former=moved.old, who=who_commands()
    )
    append_events(settings, [event])


def note_restored_tag(settings: Settings, path: str, tag: Tag, digest: Digest, former: Digest | None) -> None:
    """Note that a tag was restored, as `note_deletions` does a deletion. `former`: what it pointed to before."""
    restored = _restored(Subject.TAG, path)
    before = None if former is None else str(former)
    append_events(settings, [restored._replace(tag=tag.text, digest=str(digest), former=before)])


def note_restored_repository(settings: Settings, path: str) -> None:
    """Note that a repository was restored, as `note_deletions` does a deletion."""
    append_events(settings, [_restored(Subject.REPOSITORY, path)])


def note_pin(settings: Settings, subject: Subject, path: str, before: datetime | None, moment: datetime | None) -> None:
    """Note that a group or project was pinned to a moment, as `note_deletions` does a deletion; None: to none."""
    former, latter = (None if at is None else format_moment(at) for at in (before, moment))
    event = AuditEvent(time.time(), EventKind.PIN, subject, Surface.COMMAND, path, former=former, who=who_commands())
    append_events(settings, [event._replace(outcome=latter)])


def note_change(
    settings: Settings,
    kind: EventKind,
    subject: Subject,
    path: str,
    target: str | None = None,
    *,
    before: str | None = None,
    after: str | None = None,
) -> None:
    """Note that something was made, changed or deleted that is no content, as `note_deletions` does a deletion. `path`:
    of the group, project or user that has it; `target`: which one it is there."""
    event = AuditEvent(time.time(), kind, subject, Surface.COMMAND, path, former=before, outcome=after)
    append_events(settings, [event._replace(who=who_commands(), target=target)])


def note_differences(settings: Settings, subject: Subject, path: str, before: str, after: str) -> None:
    """Note an update, and which facts it has changed. `before`, `after`: facts, as `differences` compares them."""
    former, present = differences(before, after)
    note_change(settings, EventKind.UPDATE, subject, path, before=former, after=present)


def _restored(subject: Subject, path: str) -> AuditEvent:
    return AuditEvent(time.time(), EventKind.RESTORE, subject, Surface.COMMAND, path, who=who_commands())


def append_events(settings: Settings, events: Sequence[AuditEvent]) -> None:
    """Append events to the audit log; what it cannot take is told of on stderr."""
    file = configured_audit(settings)
    if file is None or not events:
        return
    try:
        appended = file.append(events)
    except (DatabaseUnusable, OSError) as error:
        complain(f"warning: the audit log does not have this: {error}")
        return
    if appended.set_aside:
        complain(f"warning: the audit log was damaged, and begun anew: {appended.set_aside}")


def _event(now: float, who: str, deletion: Deletion) -> AuditEvent:
    tag, digest = deletion.tag, deletion.digest
    return AuditEvent(
        now,
        EventKind.DELETE,
        Subject.REPOSITORY if tag is None else Subject.TAG,
        Surface.COMMAND,
        deletion.path,
        tag=None if tag is None else tag.text,
        digest=None if digest is None else str(digest),
        who=who,
    )


def who_commands() -> str:
    """Names the user who typed the command, as far as sudo tells; else the one that it runs as."""
    return f"command of {os.environ.get('SUDO_USER') or name_of_user(os.geteuid())}"
