"""`quota`: shows how many pulls upstreams still allow each credential, and when they will be used up."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from cache.upstream import ledger
from cache.upstream.urls import registry_of
from cache.values import CredentialId
from gateway.cli import folder
from gateway.cli.output import Document, print_columns
from gateway.cli.plain_options import plain_app
from gateway.cli.session import Session, with_session
from gateway.inspection.quota import QuotaReport, report_quota
from gateway.namespaces.expiry import format_moment

GONE = "deleted"
"""What stands for the path of a group whose login pulled, and that does not exist any more."""

_COLUMNS = ["upstream", "account", "group", "limit", "remaining", "state", "resets_at", "empty_at"]

app = plain_app()


@app.command()
@with_session
def quota(session: Session) -> None:
    """Show how many pulls upstreams still allow each credential, and when they will be used up."""
    asyncio.run(folder.require(session.settings))
    upstreams = {name: registry_of(upstream.url) for name, upstream in session.settings.upstreams.items()}
    accounts = {
        name: CredentialId(upstream.username, upstream=name)
        for name, upstream in session.settings.upstreams.items()
        if upstream.username
    }
    now = datetime.now(UTC).timestamp()
    reports = report_quota(upstreams, ledger.read(session.folder.quota), now, accounts)
    paths: dict[int, str] = {}
    if any(report.credential.group_id is not None for report in reports):
        paths = {group.id: group.path for group in asyncio.run(folder.read_groups(session.settings))}
    documents = [_document(report, paths) for report in reports]
    session.print(documents, lambda: print_columns(documents, _COLUMNS))


def _document(report: QuotaReport, paths: Mapping[int, str]) -> Document:
    """Build the JSON of a report. `paths`: those of groups by id.

    `credential`, by which programs tell accounts apart, is written `upstream:UPSTREAM:NAME` for the configured account
    of an upstream, `group:ID:NAME` for a group's own login; `account` and `group` are what people call it.
    """
    owner = report.credential.group_id
    return {
        "upstream": report.upstream,
        "credential": str(report.credential) or "anonymous",
        "account": report.credential.username or "anonymous",
        "group": None if owner is None else paths.get(owner, GONE),
        "limit": report.limit,
        "remaining": report.remaining,
        "window_seconds": report.window,
        "source": report.source or None,
        "state": report.state,
        "resets_at": _time(report.resets_at),
        "empty_at": _time(report.empty_at),
        "told_at": _time(report.told_at),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else format_moment(datetime.fromtimestamp(seconds, UTC))
