"""Delays of password logins after failures, by account and by address; pure, with the clock as an argument.

An attempt counts as a failure when it begins and is taken back when it succeeds, so that attempts at the same time do
not all pass before the first one has failed. An account is a user, by whichever of name and e-mail address the logins
are tried, or a name that no user has. So the delays of one may tell that a name and an address belong together; else
whoever knows both would have twice as many attempts. An address of IPv6 stands for its whole network, of which a client
may use any address.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

from cachetools import LRUCache

from gateway.client_name import client_name, is_loopback

FREE_FAILURES = 5
"""Failures of an account at an address after which its logins from there are delayed: a person mistypes a password a
few times."""

FREE_FAILURES_EVERYWHERE = 100
"""Failures of an account after which its logins from addresses where none ever succeeded are delayed. An address counts
for FREE_FAILURES of them, so that only many together keep a user out of a new place."""

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
    forgotten_at: datetime


class LoginDelays:
    """Failed password logins that one process remembers."""

    def __init__(self) -> None:
        self._failures: LRUCache[bytes, _Failures] = LRUCache(KEPT)
        self._proven: LRUCache[bytes, bool] = LRUCache(KEPT)
        """Accounts at addresses from which a login of theirs succeeded."""

    def begin(self, account: str, address: str | None, now: datetime) -> timedelta | None:
        """Begin an attempt, which counts as a failure until `succeed`; None if it may go on.

        Otherwise the time after which another one may. `address`: None where it is not known.
        """
        wait = self.find_wait(account, address, now)
        if wait is not None:
            return wait
        keys = _keys(account, address)
        is_delayed = self._count(keys.own, now) >= FREE_FAILURES
        for key, _ in keys.limits():
            count, forgotten_at = self._count(key, now), now + FORGOTTEN_AFTER
            if key == keys.everywhere:
                if is_delayed:
                    continue
                if count:  # a few addresses must not add up over hours
                    forgotten_at = self._failures[key].forgotten_at
            self._failures[key] = _Failures(count + 1, now, forgotten_at)
        return None

    def find_wait(self, account: str, address: str | None, now: datetime) -> timedelta | None:
        """Find the time after which an attempt may begin, without counting one; None if it may now."""
        keys = _keys(account, address)
        waits = [
            self._blocked_until(key, free) - now
            for key, free in keys.limits()
            if self._count(key, now) and not (key == keys.everywhere and keys.own in self._proven)
        ]
        longest = max(waits, default=timedelta(0))
        return longest if longest > timedelta(0) else None

    def succeed(self, account: str, address: str | None) -> None:
        """Record that an attempt succeeded: the account has no failures at this address any more, all else one less."""
        keys = _keys(account, address)
        self._failures.pop(keys.own, None)
        self._proven[keys.own] = True
        for key, _ in keys.limits():
            found = self._failures.get(key)
            if found is not None:
                self._failures[key] = _Failures(max(0, found.count - 1), found.last, found.forgotten_at)

    def _count(self, key: bytes, now: datetime) -> int:
        found = self._failures.get(key)
        if found is None or not found.last <= now < found.forgotten_at:  # a clock that was put back
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


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys of what an attempt counts for: the account at the address, the account everywhere, and the address.

    `own` is the account alone where its address tells nobody apart; `everywhere` is None then.
    """

    own: bytes
    everywhere: bytes | None
    address: bytes | None

    def limits(self) -> Iterator[tuple[bytes, int]]:
        """Each key with its number of free failures."""
        yield self.own, FREE_FAILURES
        if self.everywhere is not None:
            yield self.everywhere, FREE_FAILURES_EVERYWHERE
        if self.address is not None:
            yield self.address, FREE_FAILURES_OF_ADDRESS


def _keys(account: str, address: str | None) -> _Keys:
    """Keys of the same size for texts of any length."""
    name = account.lower()
    alone = _key("account", name)
    if address is None:
        return _Keys(alone, None, None)
    client = client_name(address)
    of_address = _key("address", client)
    if is_loopback(address):
        return _Keys(alone, None, of_address)
    return _Keys(_key("account at an address", f"{client} {name}"), _key("account everywhere", name), of_address)


def _key(kind: str, text: str) -> bytes:
    return blake2b(f"{kind} {text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
