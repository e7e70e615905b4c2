"""Passwords that a command prints, as for registries whose passwords expire (AWS ECR: 12 hours).

The command is run without a shell, and what it prints is kept until it expires, in memory and in a sealed file that the
workers of a server share: the standard output is the password, or one of these JSON objects, which state its end:

    {"password": "…", "expires_in": 3600}                     or "expires_at", a time as in RFC 3339
    {"authorizationData": [{"authorizationToken": "…", "expiresAt": …}]}
        `aws ecr get-authorization-token`; the token is `AWS:PASSWORD` in base64
        (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_AuthorizationData.html)
    {"Username": "…", "Secret": "…"}
        a docker credential helper (https://github.com/docker/docker-credential-helpers)

Nothing that the command prints is ever logged, its errors included: they may hold a secret too.
"""

import base64
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cache.upstream.errors import Unavailable
from cache.upstream.tokens import Credential
from gateway.keys.shared_secret import SharedSecret

COMMAND_SECONDS = 15.0
"""Time limit of a command: shorter than clients wait for a response."""

DEFAULT_LIFE = 600.0
"""Seconds for which a password is used that states no end."""

RENEW_BEFORE = 60.0
"""Seconds before its end at which a password is replaced."""

PAUSE = 10.0
"""Seconds after a failed run, or a refused password, before the command is run again."""

_OUTPUT_LIMIT = 64 * 1024
_PASSWORD_LIMIT = 16 * 1024


class CommandFailed(Exception):
    """A command gave no password; the text states why, and repeats nothing that it printed."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The outcome of one run of the command: a password, or `reason` where it gave none. It holds from `made_at` to
    `until`."""

    password: str
    made_at: float
    until: float
    reason: str = ""

    def holds(self, now: float) -> bool:
        return self.made_at <= now < self.until


class PasswordCommand:
    """The credential of one upstream, whose password a command prints. A call blocks; for threads, which share one run,
    as do the processes that have the same `shared` secret."""

    def __init__(
        self,
        upstream: str,
        username: str,
        command: Sequence[str],
        clock: Callable[[], float] = time.time,
        shared: SharedSecret | None = None,
    ) -> None:
        self._upstream, self._username, self._command = upstream, username, tuple(command)
        self._clock = clock
        self._shared = shared
        self._kept: _Kept | None = None
        self._refused: _Kept | None = None
        self._obtaining = threading.Lock()
        """Held while the command runs; only threads that need its password wait for it."""
        self._lock = threading.Lock()

    def __call__(self) -> Credential:
        """Get the credential; runs the command where none is kept. Raises Unavailable."""
        with self._obtaining:
            with self._lock:
                kept = self._kept
            if kept is None or not kept.holds(self._clock()):
                kept = self._obtained()
                with self._lock:
                    self._kept = kept
            if kept.reason:
                raise Unavailable(kept.reason)
            return Credential(self._username, kept.password)

    def refused(self, credential: Credential) -> None:
        """Forget a credential that the upstream refused, unless it is so new that another would fare no better.

        Returns at once, also while the command runs: an event loop calls this.
        """
        with self._lock:
            kept = self._kept
            known = kept is not None and not kept.reason and Credential(self._username, kept.password) == credential
            if kept is not None and known and self._clock() - kept.made_at >= PAUSE:
                self._kept, self._refused = None, kept

    def _obtained(self) -> _Kept:
        """The outcome of another process's run, unless it has expired or was refused, or that of a run of this one."""
        if self._shared is None:
            return self._outcome()
        with self._shared.exclusively(COMMAND_SECONDS):
            found = _parse(self._shared.read())
            if found is None or found == self._refused or not found.holds(self._clock()):
                found = self._outcome()
                self._shared.write(json.dumps(asdict(found)))
            return found

    def _outcome(self) -> _Kept:
        """Run the command."""
        began = self._clock()
        try:
            password, life = read_output(run(self._command), began)
        except CommandFailed as error:
            failed = self._clock()
            return _Kept("", failed, failed + PAUSE, f"the password_command of upstream {self._upstream} {error}")
        return _Kept(password, began, began + max(life - RENEW_BEFORE, life / 2))


def _parse(document: str | None) -> _Kept | None:
    """The outcome that another process has shared; None without one."""
    try:
        return _Kept(**json.loads(document)) if document is not None else None
    except (ValueError, TypeError):
        return None


def run(command: Sequence[str], seconds: float = COMMAND_SECONDS) -> bytes:
    """Run a command, and return its standard output. Raises CommandFailed."""
    devnull, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=devnull, stdout=pipe, stderr=devnull, start_new_session=True)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"cannot be run ({getattr(error, 'strerror', None) or 'not a command'})") from None
    assert process.stdout is not None
    try:
        until = time.monotonic() + seconds
        output = _read(process.stdout.fileno(), until)
        status = process.wait(max(0.0, until - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise CommandFailed(f"took more than {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the command's own children too, which may hold its output open
        process.stdout.close()
        process.wait()
    if status != 0:
        raise CommandFailed(f"ended with status {status}; what it printed is not shown")
    return output


def _read(descriptor: int, until: float) -> bytes:
    """Read until the end. Raises TimeoutError, or CommandFailed for more than any password has."""
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            part = os.read(descriptor, _OUTPUT_LIMIT)
            output += part
            if len(output) > _OUTPUT_LIMIT:
                raise CommandFailed(f"printed more than {_OUTPUT_LIMIT} bytes")
            if not part:
                return output


def read_output(output: bytes, now: float) -> tuple[str, float]:
    """Read the password from what a command printed, and the seconds for which it is valid. Raises CommandFailed."""
    try:
        text = output.decode().strip()
    except UnicodeDecodeError:
        raise CommandFailed("printed something that is no text") from None
    password, life = _of_document(text, now) or (text, DEFAULT_LIFE)
    if not password or len(password) > _PASSWORD_LIMIT:
        raise CommandFailed("printed no password")
    if life <= 0:
        raise CommandFailed("printed a password that has expired")
    return password, life


def _of_document(text: str, now: float) -> tuple[str, float] | None:
    """Read what one of the known JSON objects states; None for any other text, which is the password itself."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"password": str(password), **rest}:
            return password, _life(rest, now)
        case {"authorizationData": [{"authorizationToken": str(token), **rest}, *_]}:
            with suppress(ValueError):
                _, _, password = base64.b64decode(token).decode().partition(":")
                return password, _life({"expires_at": rest.get("expiresAt")}, now)
            return "", DEFAULT_LIFE
        case {"Secret": str(password)}:
            return password, DEFAULT_LIFE
    return None


def _life(stated: dict[Any, Any], now: float) -> float:
    match stated:
        case {"expires_in": int() | float() as seconds}:
            return float(seconds)
        case {"expires_at": int() | float() as moment}:
            return moment - now
        case {"expires_at": str(moment)}:
            with suppress(ValueError):
                end = datetime.fromisoformat(moment)
                return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - now
    return DEFAULT_LIFE
