"""Delays of password logins after failures, by account and by address; pure, with the clock as an argument.

An attempt counts as a failure when it begins and is taken back when it succeeds, so that attempts at the same time do
not all pass before the first one has failed. An account is the name that was presented, whether it exists or not; an
address of IPv6 stands for its whole network, of which a client may use any address.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

from cachetools import LRUCache

from gateway.auth.client_name import client_name

FREE_FAILURES = 5
"""Failures of an account after which its logins are delayed: a person mistypes a password a few times."""

FREE_FAILURES_OF_ADDRESS = 20
"""Failures of an address, behind which there may be many people."""

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(seconds=60)
FORGOTTEN_AFTER = timedelta(minutes=15)
"""Time without a failure after which an account or address has none."""

KEPT = 20_000
"""Accounts and addresses that are remembered, those of the latest failures."""


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last: datetime


class LoginDelays:
    """Failed password logins that one process remembers."""

    def __init__(self) -> None:
        self._failures: LRUCache[bytes, _Failures] = LRUCache(KEPT)

    def begin(self, account: str, address: str | None, now: datetime) -> timedelta | None:
        """Begin an attempt, which counts as a failure until `succeed`; None if it may go on.

        Otherwise the time after which another one may. `address`: None where it is not known.
        """
        wait = self.find_wait(account, address, now)
        if wait is not None:
            return wait
        for key, _ in _keys(account, address):
            self._failures[key] = _Failures(self._count(key, now) + 1, now)
        return None

    def find_wait(self, account: str, address: str | None, now: datetime) -> timedelta | None:
        """Find the time after which an attempt may begin, without counting one; None if it may now."""
        keys = _keys(account, address)
        waits = [self._blocked_until(key, free) - now for key, free in keys if self._count(key, now)]
        longest = max(waits, default=timedelta(0))
        return longest if longest > timedelta(0) else None

    def succeed(self, account: str, address: str | None) -> None:
        """Record that an attempt succeeded: the account has no failures any more, the address one less."""
        (of_account, _), *others = _keys(account, address)
        self._failures.pop(of_account, None)
        for key, _ in others:
            found = self._failures.get(key)
            if found is not None:
                self._failures[key] = _Failures(max(0, found.count - 1), found.last)

    def _count(self, key: bytes, now: datetime) -> int:
        found = self._failures.get(key)
        if found is None or not timedelta(0) <= now - found.last < FORGOTTEN_AFTER:  # a clock that was put back
            return 0
        return found.count

    def _blocked_until(self, key: bytes, free: int) -> datetime:
        found: _Failures = self._failures[key]
        return found.last + delay_after(found.count, free)


def delay_after(failures: int, free: int) -> timedelta:
    """Time between a failure and the next attempt: it doubles with each failure beyond the free ones."""
    if failures < free:
        return timedelta(0)
    return min(LONGEST_DELAY, FIRST_DELAY * (1 << min(failures - free, 16)))


def _keys(account: str, address: str | None) -> list[tuple[bytes, int]]:
    """Keys of the same size for texts of any length, each with its number of free failures."""
    keys = [(_key("account", account.lower()), FREE_FAILURES)]
    if address is not None:
        keys.append((_key("address", client_name(address)), FREE_FAILURES_OF_ADDRESS))
    return keys


def _key(kind: str, text: str) -> bytes:
    return blake2b(f"{kind} {text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
