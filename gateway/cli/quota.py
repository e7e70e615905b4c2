"""`quota`: shows how many pulls upstreams still allow each credential, and when they will be used up."""

import asyncio
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

_COLUMNS = ["upstream", "credential", "limit", "remaining", "state", "resets_at", "empty_at"]

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
    documents = [_document(report) for report in reports]
    session.print(documents, lambda: print_columns(documents, _COLUMNS))


def _document(report: QuotaReport) -> Document:
    """Build the JSON of a report.

    `credential` is written `upstream:UPSTREAM:NAME` for the configured account of an upstream, `group:ID:NAME` for a
    group's own login.
    """
    return {
        "upstream": report.upstream,
        "credential": str(report.credential) or "anonymous",
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
