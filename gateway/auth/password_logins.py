"""Logins with a password: verified once for all that present it at the same time, and delayed after failures."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from hmac import digest
from math import ceil
from secrets import token_bytes

from cache.oci.errors import TooManyRequests
from gateway.auth.login_delays import LoginDelays
from gateway.auth.passwords import Passwords
from gateway.namespaces.user import User


class PasswordLogins:
    """Decides logins with a password for one event loop.

    A remembered success always passes. A login that is being verified is joined by others with the same name and
    password, so that the requests of one client count as one attempt.
    """

    def __init__(self, passwords: Passwords, delays: LoginDelays, clock: Callable[[], datetime]) -> None:
        self._passwords = passwords
        self._delays = delays
        self._clock = clock
        self._key = token_bytes(32)
        self._running: dict[bytes, asyncio.Future[bool]] = {}

    def close(self) -> None:
        self._passwords.close()

    async def log_in(self, user: User | None, name: str, password: str, address: str | None) -> bool:
        """Whether the password is the user's. `name`: as presented, whether a user has it or not.

        `address`: of the client, None where it is not known. Raises TooManyRequests if the login must wait.
        """
        if self._passwords.remembers(user, password):
            return True
        text = f"{name}\0{user.password_hash if user else ''}\0{address}\0{password}"
        key = digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")
        running = self._running.get(key)
        if running is None:
            running = self._begin(user, name, password, address)
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)  # a client that leaves does not take the verification from the others

    def _begin(self, user: User | None, name: str, password: str, address: str | None) -> "asyncio.Future[bool]":
        self._passwords.check_room()  # what is never verified is no failure of the account
        wait = self._delays.begin(name, address, self._clock())
        if wait is not None:
            seconds = ceil(wait.total_seconds())
            raise TooManyRequests(
                f"too many logins with a wrong password: try again after {seconds} s, or use a token", seconds
            )
        verification = self._passwords.begin(user, password)

        def note_success(done: "asyncio.Future[bool]") -> None:
            if not done.cancelled() and done.exception() is None and done.result():
                self._delays.succeed(name, address)

        verification.add_done_callback(note_success)
        return verification
