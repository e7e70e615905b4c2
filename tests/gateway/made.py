"""Data folders as the first command makes them, and lines of requests."""

from typing import Any

from gateway.cli.folder import open_made
from gateway.observability.access_line import AccessLine
from gateway.settings.tables import Settings


async def make(settings: Settings) -> None:
    """Make the data folder and its database."""
    async with open_made(settings):
        pass


def made_line(**given: Any) -> AccessLine:
    """A line of a request that was answered with 200, but for what is given."""
    usual: dict[str, Any] = dict.fromkeys(AccessLine._fields)
    usual |= {"status": 200, "method": "GET", "path": "/v2/x", "bytes": 1, "complete": True, "received": 0}
    return AccessLine(**usual | {"duration_ms": 0.2, "request_id": "id"} | given)
