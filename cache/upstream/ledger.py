"""Ledger: the remaining limits of all sources, shared by the processes of a host through a small file.

If the file is lost, each process continues with its own knowledge. Pauses are written at once, limits that responses
state are written periodically. Cache hits never use the ledger.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path

from cache.runtime import files
from cache.runtime.locks import open_lock_file, try_lock
from cache.upstream.allowance import UNKNOWN, Allowance, merged, plausible
from cache.values import Source

_SIZE_LIMIT = 4 * 1024 * 1024
_LOCK_TRIES, _LOCK_WAIT = 20, 0.005
_NUMBERS = 1e11
"""Upper bound of valid counts and times."""

_FORGET_AFTER = 30 * 24 * 3600

MOST_NAMED = 1_000
"""Upstreams named by users of this server whose limits are kept, those of the latest: each change of one makes another
source, and the file must not grow beyond what is read of it."""


class Ledger:
    """Limits by source, for tasks and threads. Without a path the ledger lasts as long as the process."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._path = path
        self._known: dict[Source, Allowance] = {}
        self._dirty: set[Source] = set()
        self._room = MOST_NAMED
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()

    def find(self, source: Source) -> Allowance:
        with self._lock:
            self._look()
            return self._find(source)

    def all(self) -> dict[Source, Allowance]:
        with self._lock:
            self._look()
            return {source: self._find(source) for source in self._known}

    def note(self, source: Source, change: Callable[[Allowance], Allowance]) -> None:
        """Change what is known of a source; other processes see it after `flush`."""
        with self._lock:
            self._known[source] = change(self._find(source))
            self._dirty.add(source)
            self._trim()

    def change(self, source: Source, change: Callable[[Allowance], Allowance]) -> Allowance:
        """Change what all processes know of a source, at once: one process at a time applies `change` to the shared
        state."""
        with self._lock, self._exclusively():
            self._look()
            changed = self._known[source] = change(self._find(source))
            self._trim()
            self._write()
            return changed

    @property
    def has_unwritten(self) -> bool:
        """Whether `flush` would write anything."""
        return bool(self._dirty)

    def flush(self) -> None:
        with self._lock:
            if self._dirty:
                with self._exclusively():
                    self._look()
                    self._write()

    def _find(self, source: Source) -> Allowance:
        return plausible(self._known.get(source, UNKNOWN), self.clock())

    def _trim(self) -> None:
        """Drop what was told longest ago of upstreams that users name, where they are too many."""
        if len(self._known) <= self._room:
            return
        named = sorted(
            (source for source in self._known if source.credential.virtual),
            key=lambda source: _told(self._known[source]),
        )
        for source in named[:-MOST_NAMED]:
            del self._known[source]
            self._dirty.discard(source)
        self._room = len(self._known) + MOST_NAMED // 10

    def _look(self) -> None:
        """Read the file again if another process has replaced it."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            shared = _parse(self._path.read_bytes()) if found.st_size <= _SIZE_LIMIT else {}
        except OSError:
            return
        self._seen = seen
        for source, written in shared.items():
            allowance = plausible(written, self.clock())
            self._known[source] = merged(allowance, self._find(source)) if source in self._dirty else allowance

    def _write(self) -> None:
        """Write the file. If that fails, only this process knows the state; no request fails for it."""
        if self._path is None:
            return
        since = self.clock() - _FORGET_AFTER
        every = {source: self._find(source) for source in self._known}
        kept = {source: known for source, known in every.items() if _told(known) > since}
        document = {str(source): asdict(allowance) for source, allowance in kept.items()}
        try:
            found = files.replace(self._path, json.dumps(document).encode())
        except OSError:
            return
        self._seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        self._dirty.clear()

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the file's lock, so that writers take turns; a process that stopped while holding it is not waited for
        long."""
        descriptor = None
        if self._path is not None:
            with suppress(OSError):
                descriptor = open_lock_file(self._path.with_suffix(".lock"))
        try:
            for _ in range(_LOCK_TRIES if descriptor is not None else 0):
                with suppress(OSError):
                    if try_lock(descriptor or 0):
                        break
                time.sleep(_LOCK_WAIT)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _told(known: Allowance) -> float:
    """When a source has said something last, or until when what it said holds."""
    return max(known.told_at, known.until, known.login_until)


def _parse(content: bytes) -> dict[Source, Allowance]:
    """Parse a ledger; content that is invalid, in whole or in part, counts as empty."""
    try:
        document = json.loads(content)
        return {Source.parse(source): _allowance(entry) for source, entry in document.items()}
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return {}


def _allowance(entry: dict[str, object]) -> Allowance:
    known = {field.name: entry[field.name] for field in fields(Allowance)}
    samples = known.pop("samples")
    if not isinstance(samples, list):
        raise TypeError("no list of samples")
    for name, value in known.items():
        wanted = str if name in ("source", "refused_login") else (int, float, type(None))
        if not isinstance(value, wanted) or (isinstance(value, int | float) and not 0 <= value < _NUMBERS):
            raise TypeError(f"{name} is no such value")
    pairs = tuple((float(at), int(left)) for at, left in samples)
    if not all(0 <= at < _NUMBERS and 0 <= left < _NUMBERS for at, left in pairs):
        raise TypeError("no samples")
    return Allowance(**known, samples=pairs)  # type: ignore[arg-type]


def read(path: Path, clock: Callable[[], float] = time.time) -> dict[Source, Allowance]:
    """Ledger that a running server, or the last one, has written; {} if there is none."""
    try:
        return {source: plausible(known, clock()) for source, known in _parse(path.read_bytes()).items()}
    except OSError:
        return {}
