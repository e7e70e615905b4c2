"""Actor: a request of somebody who changes something."""

from typing import Protocol

from gateway.audit.changes import Authored
from gateway.auth.principal import Principal


class Actor(Authored, Protocol):
    """A request with whoever makes it. `principal` decides what is allowed, `author` is what the audit log is told."""

    @property
    def principal(self) -> Principal:
        """Whose credential was accepted."""
