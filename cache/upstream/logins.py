"""Logins: how often a credential is presented that its upstream has refused.

Registries lock an account after some wrong passwords, and a cache that retries for each pull keeps it locked
(https://github.com/goharbor/harbor/issues/22569). A refused credential is presented again only after a pause, which
grows with each refusal and holds for all processes of the host. A credential that is replaced is presented at once.
"""

import math
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

from cache.upstream.allowance import Allowance
from cache.upstream.errors import CredentialRefused, Unavailable, UpstreamError
from cache.upstream.flow import Flow, Wait
from cache.upstream.ledger import Ledger
from cache.values import Source

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 1800.0
"""Seconds of the pause after the first refusal, and of the longest that it grows to."""

TRIAL_WITHIN = 30.0
"""Seconds for which others wait for the one attempt after a pause."""


class Presented(Protocol):
    """A credential, as far as it matters here. `version` identifies what was configured, and tells no secret."""

    @property
    def username(self) -> str: ...

    @property
    def version(self) -> str: ...


def login_pause(known: Allowance, version: str, now: float) -> float:
    """Seconds for which a credential must not be presented; 0: it may be."""
    return max(0.0, known.login_until - now) if known.refused_login == version else 0.0


def after_login_refused(known: Allowance, version: str, now: float) -> Allowance:
    """State after a credential was refused. Attempts that were made before the pause began count as one."""
    if login_pause(known, version, now) and not known.login_tried:
        return known
    times = known.login_refusals if known.refused_login == version else 0
    until = now + min(FIRST_PAUSE * 2 ** min(times, 20), LONGEST_PAUSE)
    return replace(known, refused_login=version, login_refusals=times + 1, login_until=until, login_tried=False)


def after_login_accepted(known: Allowance) -> Allowance:
    return replace(known, refused_login="", login_refusals=0, login_until=0.0, login_tried=False)


def while_login_tried(known: Allowance, now: float) -> Allowance:
    """State while one request presents the credential after a pause; the others wait for its outcome."""
    return replace(known, login_until=now + TRIAL_WITHIN, login_tried=True)


class Logins:
    """Attempts to log in to one source; shared by tasks and threads, and by all processes through the ledger."""

    def __init__(self, ledger: Ledger, source: Source) -> None:
        self._ledger = ledger
        self._source = source
        self._accepted: str | None = None
        self._trial: Future[UpstreamError | None] | None = None
        self._lock = threading.Lock()

    def check(self, credential: Presented) -> None:
        """Raise CredentialRefused where the credential was refused lately. After a pause the first caller may present
        it; for the others the pause goes on until its outcome is known."""
        now, version = self._ledger.clock(), credential.version
        known = self._ledger.find(self._source)
        if known.refused_login != version:
            return
        if not login_pause(known, version, now):
            known = self._claim(version, now)
        if seconds := login_pause(known, version, now):
            raise CredentialRefused(
                f"{self._source.origin.netloc} refused user {credential.username}, who is tried again in "
                f"{math.ceil(seconds)} s, or at once when the password is replaced",
                math.ceil(seconds),
            )

    def turn(self, credential: Presented) -> Flow["Future[UpstreamError | None] | None"]:
        """Wait for the turn to present a credential: one goes first until it was accepted once. The result is to be
        passed to `end`. Raises CredentialRefused, Unavailable."""
        while True:
            self.check(credential)
            with self._lock:
                pending = self._trial
                if self._accepted == credential.version:
                    return None
                if pending is None:
                    self._trial = Future()
                    return self._trial
            try:
                yield Wait(pending)
            except TimeoutError as error:
                raise Unavailable(f"the login at {self._source.origin.netloc} took too long") from error

    def end(self, turn: "Future[UpstreamError | None] | None") -> None:
        """End a turn, whatever came of it."""
        if turn is not None:
            with self._lock:
                self._trial = None
            turn.set_result(None)

    def accepted(self, credential: Presented) -> None:
        """Note that the upstream accepted a credential."""
        if self._accepted != credential.version:
            self._accepted = credential.version
            if self._ledger.find(self._source).refused_login:
                self._ledger.change(self._source, after_login_accepted)

    def refused(self, credential: Presented) -> None:
        """Note that the upstream refused a credential, whatever it was presented for."""
        now, version = self._ledger.clock(), credential.version
        self._accepted = None
        self._ledger.change(self._source, lambda known: after_login_refused(known, version, now))

    def _claim(self, version: str, now: float) -> Allowance:
        """Claim the attempt after a pause, among all processes; return the state from before."""
        before: list[Allowance] = []

        def claim(known: Allowance) -> Allowance:
            before.append(known)
            mine = known.refused_login == version and not login_pause(known, version, now)
            return while_login_tried(known, now) if mine else known

        self._ledger.change(self._source, claim)
        return before[0]
