"""Passwords: their hashes (argon2id, RFC 9106), and their verification in threads, a few at a time."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hmac import digest
from secrets import token_bytes

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cachetools import TTLCache

from gateway.namespaces.user import User

MEMORY_KIB = 19 * 1024
"""Memory of one verification; with 2 passes the recommendation of OWASP, about 20 ms of one core."""

REMEMBERED_SECONDS = 60.0
KEPT_SUCCESSES = 10_000

NICENESS = 10
"""Priority of the threads (`nice`): where processors are short, the event loop has ten times as much."""

_hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)


def hash_password(password: str) -> str:
    """Hash a password as it is stored: argon2id in its encoded form, with its parameters and salt."""
    return _hasher.hash(password.encode("utf-8", "surrogatepass"))


def matches(password_hash: str, password: str) -> bool:
    """Whether a password is the one that was hashed; as slow as hashing, for whatever password."""
    try:
        return _hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


def _give_way() -> None:
    """Lower the priority of this thread alone, as Linux does for the id of a thread."""
    with suppress(OSError):  # forbidden by a sandbox: the thread works all the same
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Passwords:
    """Verifies passwords for one event loop, and remembers each success for a minute.

    What is remembered holds the stored hash, so a changed password makes it useless, and no password can be read from
    it. The caller checks whether the user is blocked, for each request.
    """

    def __init__(self, at_once: int | None = None) -> None:
        """`at_once`: verifications at the same time; None: one for each core."""
        self.at_once = at_once or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self.at_once, "password", initializer=_give_way)
        self._lock = threading.Lock()
        self._key = token_bytes(32)
        self._successes: TTLCache[bytes, bool] = TTLCache(KEPT_SUCCESSES, REMEMBERED_SECONDS)
        self._nobody = hash_password(token_bytes(32).hex())

    def close(self) -> None:
        """End the threads; verifications that wait are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def remembers(self, user: User | None, password: str) -> bool:
        """Whether this password of the user was verified within the last minute."""
        if user is None or user.password_hash is None:
            return False
        with self._lock:
            return self._mark(user, password) in self._successes

    def begin(self, user: User | None, password: str) -> "asyncio.Future[bool]":
        """Begin to verify whether the password is the user's; for nobody, and a user without a password, no, and just
        as slowly.

        The verification ends whoever waits for it. More than `at_once` of them wait, however many they are.
        """
        stored = user.password_hash if user is not None else None
        return asyncio.get_running_loop().run_in_executor(self._threads, self._verify, user, stored, password)

    def _verify(self, user: User | None, stored: str | None, password: str) -> bool:
        """Body of a verification in its thread."""
        matched = matches(stored or self._nobody, password)
        if user is None or stored is None or not matched:
            return False
        with self._lock:
            self._successes[self._mark(user, password)] = True
        return True

    def _mark(self, user: User, password: str) -> bytes:
        """The mark of a success, which only this process can compute."""
        text = f"{user.id} {user.password_hash} {password}"
        return digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")
