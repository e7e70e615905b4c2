"""Leases: the right of one of several workers to do a thing, and whether others wait for the result."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Lease(Protocol):
    """The right to do a thing. It ends with `release`, which may be called more than once, or with its process."""

    def release(self) -> None: ...


class Leases(Protocol):
    """Leases by name. No method blocks; each raises OSError if leases are not possible at all."""

    def take(self, name: str) -> Lease | None:
        """Take the lease; None while another holds it, in this process or another."""

    def register_waiter(self, name: str) -> Lease:
        """Register a waiter for what the lease's holder does, until the result is released."""

    def has_waiters(self, name: str) -> bool:
        """Whether a waiter is registered, in this process or another."""


@contextmanager
def held(lease: Lease) -> Iterator[None]:
    """Release the lease at the end of the block."""
    try:
        yield
    finally:
        lease.release()
