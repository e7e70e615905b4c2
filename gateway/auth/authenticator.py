"""Authenticator: from the credential of a request to its principal."""

from collections.abc import Mapping
from typing import Any

from gateway.auth.principal import ANONYMOUS, Principal


class Authenticator:
    """Builds the principal of each request, once, before anything is decided."""

    async def authenticate(self, scope: Mapping[str, Any]) -> Principal:
        """The principal of an ASGI scope.

        This server has no credentials yet, so every request is anonymous, and credentials that were meant for another
        registry are ignored.
        """
        return ANONYMOUS
