"""Leases: who of several workers does a thing, and whether others wait for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Lease(Protocol):
    """The right to do a thing. It ends with `release`, which may be called more than once, or with its process."""

    def release(self) -> None: ...


class Leases(Protocol):
    """By name. No method waits for anybody; each raises OSError where leases cannot be had at all."""

    def take(self, name: str) -> Lease | None:
        """None while somebody has it, in this process or another."""

    def attend(self, name: str) -> Lease:
        """Says, until it is released, that somebody waits for what the holder of the lease does."""

    def attended(self, name: str) -> bool:
        """Whether anybody says so."""


@contextmanager
def held(lease: Lease) -> Iterator[None]:
    try:
        yield
    finally:
        lease.release()
