"""`audit`: who pulled, pushed, deleted and restored what, and what was fetched into the cache."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from gateway.audit.event import AuditEvent, EventKind
from gateway.audit.file import AuditQuery, WrittenEvent, read_events
from gateway.cli import readable
from gateway.cli.folder import PAGE_SIZE, absent
from gateway.cli.output import Document
from gateway.cli.owner import require_owner
from gateway.cli.plain_options import plain_app
from gateway.cli.session import Session, with_session
from gateway.data_folder import audit_file
from gateway.namespaces.expiry import FORMS, format_moment, parse_past
from gateway.namespaces.image_text import parse_image

app = plain_app()

_MADE = (EventKind.PIN, EventKind.CREATE, EventKind.UPDATE)
"""Kinds of events whose outcome is what something is since."""
_CHANGES = (EventKind.CREATE, EventKind.UPDATE, EventKind.DELETE)
_COLUMNS = ["at", "who", "event", "path", "digest", "from", "to"]


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Options that select events; all of them must hold."""

    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help=f"Only events since then: {FORMS}, which means so long ago."),
    ] = None
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Only those of a user, by any token or job, or of a deploy token."),
    ] = None
    path: Annotated[
        str | None,
        typer.Option(
            "--path",
            metavar="PATH[:TAG|@DIGEST]",
            help="Only events of a repository, a project or a group, and of all below it.",
        ),
    ] = None
    event: Annotated[EventKind | None, typer.Option("--event", help="Only events of this kind.")] = None

    def query(self, now: datetime) -> AuditQuery:
        """Parse the options. Raises NameInvalid, TagInvalid, DigestInvalid, ExpiryInvalid."""
        path, reference = (None, None) if self.path is None else parse_image(self.path)
        return AuditQuery(
            since=None if self.since is None else parse_past(self.since, now).replace(microsecond=0).timestamp(),
            event=self.event,
            user=self.user,
            path=None if path is None else RepositoryName.parse(path).text,
            tag=reference.text if isinstance(reference, Tag) else None,
            digest=str(reference) if isinstance(reference, Digest) else None,
        )


@app.callback()
def callback() -> None:
    """Show who pulled, pushed and deleted what."""


@app.command("list")
@with_session
def list_all(session: Session, filters: AuditFilters) -> None:
    """List events of the audit log, the earliest first."""
    data, now = session.settings.data, datetime.now(UTC)
    query = filters.query(now)
    require_owner(data)
    if not data.is_dir():
        raise absent(session.settings)
    pages = _read_pages(audit_file(data), query)
    headings = readable.headings(_COLUMNS)
    asyncio.run(session.print_pages(pages, _document, headings, lambda written: _row(written, now)))


async def _read_pages(path: Path, query: AuditQuery) -> AsyncGenerator[Sequence[WrittenEvent], None]:
    """Read the log page by page, at least one; no page holds up a server that writes."""
    page = read_events(path, query, None, PAGE_SIZE)
    yield page
    while len(page) == PAGE_SIZE:
        page = read_events(path, query, page[-1].position, PAGE_SIZE)
        yield page


def _document(written: WrittenEvent) -> Document:
    event = written.event
    former, latter = event.ends
    return {
        "at": format_moment(datetime.fromtimestamp(event.at, UTC)),
        "who": event.who,
        "event": event.event.value,
        "path": event.path,
        "tag": event.tag,
        "digest": event.digest,
        "from": former,
        "to": latter,
        "subject": event.subject.value,
        "target": event.target,
        "surface": event.surface.value,
        "user": event.user,
        "client": event.client,
        "outcome": None if event.event in _MADE else event.outcome,
        "request_id": event.request_id,
    }


def _row(written: WrittenEvent, now: datetime) -> Sequence[str]:
    event = written.event
    is_digest = event.subject.is_content and event.event not in (EventKind.MOVE, *_MADE)
    shown = {name: _short(text) if is_digest else text for name, text in zip(("from", "to"), event.ends, strict=True)}
    path = f"{event.path}:{event.tag}" if event.tag else event.path
    what = "" if event.event not in _CHANGES or event.subject.is_content else f" ({_subject_of(event)})"
    shown |= {"digest": _short(event.digest), "path": f"{path}{what}"}
    return readable.row({**_document(written), **shown}, _COLUMNS, now)


def _subject_of(event: AuditEvent) -> str:
    return event.subject.value if event.target is None else f"{event.subject.value} {event.target}"


def _short(digest: str | None) -> str | None:
    return None if digest is None else readable.short_digest(Digest.parse(digest))
