"""IssuerKeys: the keys of one issuer as a process knows them, fetched once for all that need them.

| a key that is wanted | keys are | what is done |
| --- | --- | --- |
| is known | fresh | it is used |
| is known | older than FRESH | it is used, and they are fetched beside |
| is known | older than KEPT | they are fetched first; where that fails, nothing is accepted |
| is not known | any | they are fetched first, unless that was tried within PAUSE |
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from cache.runtime.tasks import SharedTasks, Tasks
from gateway.oidc.errors import IdTokenRefused, IssuerUnusable
from gateway.oidc.keys import KeySet, VerificationKey

log = structlog.get_logger()

FRESH = 3600.0
"""Seconds for which keys are used without a look at the issuer; it takes a key back within this time."""

KEPT = 24 * 3600.0
"""Seconds for which known keys go on while the issuer cannot be reached."""

PAUSE = 10.0
"""Seconds between two fetches that unknown keys cause: whoever invents keys makes the issuer no traffic."""

PATIENCE = 8.0
"""Seconds that a login waits for keys; clients give up after 15 s or more."""


@dataclass(slots=True)
class _Known:
    """What was fetched last, and when, by a clock that does not go back."""

    keys: KeySet = field(default_factory=dict)
    fetched_at: float | None = None
    tried_at: float | None = None


class IssuerKeys:
    """The keys of an issuer. Belongs to one event loop; its fetches belong to the tasks that are given."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[KeySet]],
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        """`name`: of the issuer, for the log. `fetch`: raises IssuerUnusable."""
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._patience = patience
        self._fetches: SharedTasks[str, IssuerUnusable | None] = SharedTasks(tasks)
        self._known = _Known()

    def known(self, key_id: str) -> VerificationKey | None:
        """The key of an id as far as it is known, however old that is."""
        return self._known.keys.get(key_id)

    async def find(self, key_id: str) -> VerificationKey:
        """The key of an id. Raises IdTokenRefused where the issuer has none, IssuerUnusable where that is not known."""
        key, age = self._known.keys.get(key_id), self._age()
        if key is not None and age is not None and age <= KEPT:
            if age > FRESH and self._may_fetch():
                self._begin()
            return key
        await self._wait(self._may_fetch())
        key, age = self._known.keys.get(key_id), self._age()
        if age is None or age > KEPT:
            raise IssuerUnusable("its keys cannot be fetched")
        if key is None:
            raise IdTokenRefused("it is of a key that its issuer does not have")
        return key

    def _age(self) -> float | None:
        """Seconds since the keys were fetched; None where they never were."""
        return None if self._known.fetched_at is None else self._clock() - self._known.fetched_at

    def _may_fetch(self) -> bool:
        return self._known.tried_at is None or self._clock() - self._known.tried_at >= PAUSE

    def _begin(self) -> "asyncio.Task[IssuerUnusable | None]":
        task, _ = self._fetches.join(self._name, self._renew, f"keys of {self._name}")
        return task

    async def _wait(self, may_begin: bool) -> None:
        """Wait for a fetch that runs, or one that is begun. Raises IssuerUnusable where that takes too long or fails
        and no key is known."""
        if not may_begin and not self._fetches.runs(self._name):
            return
        try:
            async with asyncio.timeout(self._patience):
                error = await asyncio.shield(self._begin())
        except TimeoutError:
            raise IssuerUnusable("its keys did not arrive in time") from None
        if error is not None:
            raise IssuerUnusable(str(error))

    async def _renew(self) -> IssuerUnusable | None:
        self._known.tried_at = self._clock()
        try:
            keys = await self._fetch()
        except IssuerUnusable as error:
            log.warning("issuer_keys_not_fetched", issuer=self._name, reason=str(error))
            return error
        self._known = _Known(keys, self._clock(), self._known.tried_at)
        log.info("issuer_keys_fetched", issuer=self._name, keys=sorted(keys))
        return None
