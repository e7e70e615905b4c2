"""The scrub: which damage of stored content it finds, and what becomes of it."""

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cache.retention import scrub
from cache.retention.scrub import OPENED, RECHECK_SECONDS, Finding, Inspector, ReadLimiter, Scrub
from cache.runtime.locks import ProcessRole
from cache.values import Damage
from tests.cache.keeper import Keeper
from tests.cache.samples import ANONYMOUS, APP, manifest_of, open_descriptors

SIZE = 600_000
UNLIMITED = ReadLimiter(0, threading.Event())


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    before = open_descriptors()
    keeper = Keeper(tmp_path)
    yield keeper
    keeper.close()
    assert open_descriptors() <= before


@pytest.fixture
def inspector(keeper: Keeper) -> Inspector:
    return Inspector(keeper.maintenance, keeper.store, keeper.quarantine)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(400_000)
        byte = file.read(1)
        file.seek(400_000)
        file.write(bytes([byte[0] ^ 1]))


def cut(path: Path) -> None:
    os.truncate(path, 5)


def lengthen(path: Path) -> None:
    os.truncate(path, SIZE + 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


HARM = [(flip, Damage.DIGEST), (cut, Damage.SIZE), (lengthen, Damage.SIZE), (empty, Damage.SIZE)]


async def test_what_is_as_it_was_written_is_left_alone(keeper: Keeper, inspector: Inspector) -> None:
    digest = await keeper.put(SIZE)
    assert inspector.check(digest, UNLIMITED) is None
    assert await keeper.held(digest) == [True]
    assert not (keeper.folder / "quarantine").exists()


@pytest.mark.parametrize(("harm", "damage"), [*HARM, (Path.unlink, Damage.MISSING)])
async def test_what_is_damaged_is_put_aside_and_forgotten(
    keeper: Keeper, inspector: Inspector, harm: Callable[[Path], None], damage: Damage
) -> None:
    digest = await keeper.put(SIZE)
    harm(keeper.file(digest))
    assert inspector.check(digest, UNLIMITED) == Finding(digest, damage, False, [(ANONYMOUS, APP)])
    assert await keeper.held(digest) == [False]
    kept = list((keeper.folder / "quarantine").iterdir()) if (keeper.folder / "quarantine").exists() else []
    assert len(kept) == (damage is not Damage.MISSING)
    assert inspector.check(digest, UNLIMITED) is None


@pytest.mark.parametrize(("harm", "damage"), HARM)
async def test_what_was_fetched_again_during_a_check_is_left_alone(
    keeper: Keeper,
    inspector: Inspector,
    harm: Callable[[Path], None],
    damage: Damage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = await keeper.put(SIZE)
    content = keeper.file(digest).read_bytes()
    harm(keeper.file(digest))
    find = scrub._damage

    def find_and_store(*words: Any) -> Damage | None:
        found = find(*words)
        assert keeper.write(content) == digest
        return found

    monkeypatch.setattr(scrub, "_damage", find_and_store)
    assert inspector.check(digest, UNLIMITED) is None
    assert await keeper.held(digest) == [True]
    assert keeper.file(digest).read_bytes() == content


async def test_a_damaged_manifest_is_put_aside_and_forgotten(keeper: Keeper, inspector: Inspector) -> None:
    manifest = manifest_of("one")
    await keeper.put_image(manifest, "latest")
    digest = manifest.descriptor.digest
    assert inspector.check(digest, UNLIMITED) is None
    with closing(sqlite3.connect(keeper.folder / "cache.db")) as connection, connection:
        connection.execute("UPDATE manifests SET raw = ?", (manifest.raw + b" ",))
    assert inspector.check(digest, UNLIMITED) == Finding(digest, Damage.DIGEST, True, [(ANONYMOUS, APP)])
    assert keeper.maintenance.manifest_bytes(digest) is None
    [aside] = (keeper.folder / "quarantine").iterdir()
    assert aside.read_bytes() == manifest.raw + b" "


async def test_what_cannot_be_read_is_damage_but_a_want_of_descriptors_is_none(
    keeper: Keeper, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await keeper.put(SIZE)

    numbers = [errno.EMFILE, errno.EIO]

    def failing(*_: object) -> int:
        number = numbers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(scrub.os, "preadv", failing)
    with pytest.raises(OSError, match="Too many open files"):
        inspector.check(digest, UNLIMITED)
    assert await keeper.held(digest) == [True]
    found = inspector.check(digest, UNLIMITED)
    assert found is not None
    assert found.damage is Damage.UNREADABLE
    assert await keeper.held(digest) == [False]


async def test_a_reading_that_is_stopped_finds_nothing(keeper: Keeper, inspector: Inspector) -> None:
    digest = await keeper.put(SIZE)
    flip(keeper.file(digest))
    stopped = threading.Event()
    stopped.set()
    assert inspector.check(digest, ReadLimiter(1, stopped)) is None
    assert await keeper.held(digest) == [True]


async def test_a_rate_is_kept(keeper: Keeper, inspector: Inspector) -> None:
    digest = await keeper.put(SIZE)
    began = time.monotonic()
    assert inspector.check(digest, ReadLimiter(SIZE, threading.Event())) is None
    assert time.monotonic() - began > 0.5


async def test_a_small_file_takes_the_time_of_a_larger_one(keeper: Keeper, inspector: Inspector) -> None:
    """A million of them would else keep a processor busy for minutes."""
    digests = [await keeper.put(1, seed=seed) for seed in range(8)]
    limiter, began = ReadLimiter(OPENED * 8, threading.Event()), time.monotonic()
    for digest in digests * 2:
        assert inspector.check(digest, limiter) is None
    assert time.monotonic() - began > 0.5


async def test_the_scrub_finds_what_was_unchecked_longest_first_and_checks_nothing_twice(
    keeper: Keeper, inspector: Inspector
) -> None:
    oldest, newer = await keeper.put(SIZE, seed=1), await keeper.put(SIZE, seed=2)
    fresh = await keeper.put(SIZE, seed=3)
    for digest, age in ((oldest, 3), (newer, 2)):
        keeper.used(digest, age * RECHECK_SECONDS)
    for digest in (oldest, newer, fresh):
        flip(keeper.file(digest))
    found: list[Finding] = []
    both = threading.Event()

    def note(finding: Finding) -> None:
        found.append(finding)
        if len(found) == 2:
            both.set()

    role = ProcessRole(keeper.folder / "scrub.lock")
    looking = Scrub(keeper.maintenance, keeper.usage, inspector, role, 0, note)
    looking.start()
    assert await asyncio.to_thread(both.wait, 30)
    looking.close()
    assert [finding.digest for finding in found] == [oldest, newer]
    assert await keeper.held(oldest, newer, fresh) == [False, False, True]
    assert keeper.maintenance.least_checked(time.time() - RECHECK_SECONDS, 10) == []
