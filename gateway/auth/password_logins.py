"""Logins with a password: verified once for all that present it at once, in turns of peers, delayed after failures."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import digest
from math import ceil
from secrets import token_bytes

from cache.oci.errors import TooManyRequests
from cache.runtime.fair_queue import Requester
from cache.runtime.line import Line, PlaceRequest
from gateway.auth.login_delays import LoginDelays
from gateway.auth.passwords import Passwords
from gateway.client_name import client_name, site_name
from gateway.namespaces.user import User

QUEUE_LENGTH = 64
"""Logins that wait for a verification; for one more, the latest of the peer that has the most is refused."""

LONGEST_WAIT = 10.0
"""Seconds that a login waits for its verification to begin; clients give up after 15 s or more."""

RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a login is not verified, and the seconds after which the client may try again."""

    detail: str
    retry_after: int = RETRY_AFTER


_FULL = _Refusal("too many logins with a password at the same time: try again, or use a token")
_LATE = _Refusal("this login has waited too long for those of others: try again, or use a token")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A name and a password as presented, the user that has the name, and the address where it is known."""

    user: User | None
    name: str
    password: str
    address: str | None


class PasswordLogins:
    """Decides logins with a password for one event loop.

    A remembered success always passes. A login that is being verified is joined by others with the same name and
    password, so that the requests of one client count as one attempt. Peers take turns, so that whoever has many logins
    waits behind its own; whether a user exists changes no turn.
    """

    def __init__(
        self,
        passwords: Passwords,
        delays: LoginDelays,
        clock: Callable[[], datetime],
        queue_length: int = QUEUE_LENGTH,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        """`longest_wait`: seconds until the verification of a login begins."""
        self._passwords = passwords
        self._delays = delays
        self._clock = clock
        self._longest_wait = longest_wait
        self._line = Line(passwords.at_once, 0, queue_length)
        self._key = token_bytes(32)
        self._running: dict[bytes, _Login] = {}

    def close(self) -> None:
        """End the threads; logins that wait are cancelled."""
        for login in list(self._running.values()):
            login.outcome.cancel()
        self._passwords.close()

    async def log_in(self, user: User | None, name: str, password: str, address: str | None, peer: str = "") -> bool:
        """Whether the password is the user's. `name`: as presented, whether a user has it or not.

        `address`: of the client, None where it is not known. `peer`: the address that takes turns with others, which
        may be that of a proxy. Raises TooManyRequests if the login must wait.
        """
        if self._passwords.remembers(user, password):
            return True
        text = f"{name}\0{user.password_hash if user else ''}\0{address}\0{password}"
        key = digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")
        login = self._running.get(key)
        if login is None:
            if wait := self._delays.find_wait(name, address, self._clock()):
                raise _error(_delayed(wait))
            login = self._running[key] = _Login(self._line, self._verify, _Attempt(user, name, password, address))
            login.begin_wait(self._longest_wait)
            login.outcome.add_done_callback(lambda _: self._running.pop(key, None))
        login.join(Requester(site_name(peer), client_name(peer)))
        outcome = await asyncio.shield(login.outcome)  # a client that leaves does not end it for the others
        if isinstance(outcome, _Refusal):
            raise _error(outcome)
        return outcome

    def _verify(self, attempt: _Attempt) -> "asyncio.Future[bool] | _Refusal":
        """Begin the verification whose turn it is; what is never verified is no failure of the account."""
        wait = self._delays.begin(attempt.name, attempt.address, self._clock())
        if wait is not None:
            return _delayed(wait)
        verification = self._passwords.begin(attempt.user, attempt.password)

        def note_success(done: "asyncio.Future[bool]") -> None:
            if not done.cancelled() and done.exception() is None and done.result():
                self._delays.succeed(attempt.name, attempt.address)

        verification.add_done_callback(note_success)
        return verification


class _Login:
    """A login of any number of clients, which waits in the turns of each of their peers."""

    def __init__(
        self, line: Line, verify: "Callable[[_Attempt], asyncio.Future[bool] | _Refusal]", attempt: _Attempt
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[bool | _Refusal] = self._loop.create_future()
        self._request = PlaceRequest(line, self._note_decision)
        self._verify = verify
        self._attempt = attempt

    def begin_wait(self, longest: float) -> None:
        timer = self._loop.call_later(longest, self._expire)

        def end(_: object) -> None:
            timer.cancel()
            if self._request.waits:
                self._request.close()

        self.outcome.add_done_callback(end)

    def join(self, who: Requester) -> None:
        self._request.add(who)

    def _note_decision(self) -> None:
        """Go on after the line has decided, and not while it does."""
        if self._request.is_refused:
            self._settle(_FULL)
        elif self._request.is_held:
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        verifies = None if self.outcome.done() else self._verify(self._attempt)
        if isinstance(verifies, asyncio.Future):
            verifies.add_done_callback(self._end)
            return
        if verifies is not None:
            self._settle(verifies)
        self._request.close()

    def _end(self, done: "asyncio.Future[bool]") -> None:
        """Take over the outcome of the verification, whose place is free then."""
        self._request.close()
        if done.cancelled():
            self.outcome.cancel()
        elif (error := done.exception()) is None:
            self._settle(done.result())
        elif not self.outcome.done():
            self.outcome.set_exception(error)

    def _expire(self) -> None:
        if self._request.waits:
            self._settle(_LATE)

    def _settle(self, outcome: bool | _Refusal) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


def _delayed(wait: timedelta) -> _Refusal:
    seconds = ceil(wait.total_seconds())
    return _Refusal(f"too many logins with a wrong password: try again after {seconds} s, or use a token", seconds)


def _error(refusal: _Refusal) -> TooManyRequests:
    return TooManyRequests(refusal.detail, refusal.retry_after)
