"""`quota`: what upstreams still give, to whom, and when it will be used up."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cache.upstream import ledger, quota
from cache.upstream.quota import UNKNOWN, Allowance
from cache.upstream.urls import origin_of
from cache.values import CredentialId, Source
from gateway.cli.config import load_settings
from gateway.cli.folder import open_existing
from gateway.cli.output import AsJson, ConfigFile, DataFolder, print_json, print_table, refusals
from gateway.data_folder import CacheFolder
from gateway.settings.load import Settings

COLUMNS = ["upstream", "credential", "limit", "remaining", "state", "resets_at", "empty_at"]


def show(config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show what upstreams still give, by credential, and when it will be used up."""
    with refusals():
        settings = load_settings(config, data)
        asyncio.run(_require(settings.data))
        known = ledger.read(CacheFolder(settings.data).quota)
    now = datetime.now(UTC).timestamp()
    documents = [_describe(*entry, now) for entry in _entries(settings, known)]
    if as_json:
        print_json(documents)
    else:
        rows = [["-" if document[c] is None else str(document[c]) for c in COLUMNS] for document in documents]
        print_table([column.capitalize() for column in COLUMNS], rows)


async def _require(data: Path) -> None:
    async with open_existing(data):
        pass


def _entries(settings: Settings, known: dict[Source, Allowance]) -> Iterator[tuple[str, CredentialId, Allowance]]:
    """Upstream, credential and what is known; of an upstream that said nothing yet, that nothing is known."""
    for name, upstream in sorted(settings.upstreams.items()):
        origin = origin_of(upstream.url)
        found = sorted((source for source in known if source.origin == origin), key=str)
        for source in found or [Source(origin)]:
            yield name, source.credential, known.get(source, UNKNOWN)


def _describe(name: str, credential: CredentialId, known: Allowance, now: float) -> dict[str, object]:
    """One row of the table; `credential` is written `user:NAME` for the configured account, `group:ID:NAME` for a
    group's own login."""
    pausing = known.until > now
    left = "pausing" if pausing else "unknown" if known.remaining is None else quota.saving_mode(known, now).value
    return {
        "upstream": name,
        "credential": str(credential) or "anonymous",
        "limit": known.limit,
        "remaining": known.remaining,
        "window_seconds": known.window,
        "source": known.source or None,
        "state": {"none": "enough is left"}.get(left, left),
        "resets_at": _time(quota.resets_at(known, now)),
        "empty_at": _time(quota.empty_at(known, now)),
        "told_at": _time(known.told_at or None),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
