"""Data folders as the first command makes them."""

from gateway.cli.folder import open_made
from gateway.settings.tables import Settings


async def make(settings: Settings) -> None:
    """Make the data folder and its database."""
    async with open_made(settings):
        pass
