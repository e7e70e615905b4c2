"""Locks: one holder, refusals without waiting, and an end with the descriptor."""

import os
import threading
from pathlib import Path

from cache.runtime.disk import disk_space, sync_folder
from cache.runtime.locks import ProcessRole, byte_is_locked, locked, open_lock_file, try_lock, try_lock_byte


def test_one_open_file_holds_the_exclusive_lock(tmp_path: Path) -> None:
    one, other = open_lock_file(tmp_path / "lock"), open_lock_file(tmp_path / "lock")
    assert try_lock(one)
    assert not try_lock(other)
    assert not try_lock(other, shared=True)
    os.close(one)
    assert try_lock(other)
    os.close(other)


def test_a_shared_lock_excludes_the_exclusive_one_alone(tmp_path: Path) -> None:
    files = [open_lock_file(tmp_path / "lock") for _ in range(3)]
    assert try_lock(files[0], shared=True)
    assert try_lock(files[1], shared=True)
    assert not try_lock(files[2])
    for descriptor in files:
        os.close(descriptor)


def test_a_byte_is_locked_beside_the_others(tmp_path: Path) -> None:
    one, other = open_lock_file(tmp_path / "lock"), open_lock_file(tmp_path / "lock")
    assert try_lock_byte(one, 7)
    assert byte_is_locked(other, 7)
    assert not byte_is_locked(other, 8)
    assert not try_lock_byte(other, 7, shared=True)
    assert try_lock_byte(other, 8)
    os.close(one)
    assert not byte_is_locked(other, 7)
    os.close(other)


def test_a_waiter_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        with locked(tmp_path / "lock"):
            order.append("waiter")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(10)
        order.append("holder")
    thread.join(10)
    assert order == ["holder", "waiter"]


def test_a_role_has_one_holder_until_it_leaves(tmp_path: Path) -> None:
    one, other = ProcessRole(tmp_path / "lock"), ProcessRole(tmp_path / "lock")
    assert one.take()
    assert one.take()
    assert not other.take()
    one.leave()
    assert other.take()
    other.leave()


def test_the_space_of_a_disk_is_told_in_bytes_and_files(tmp_path: Path) -> None:
    space = disk_space(tmp_path)
    assert 0 <= space.free <= space.size
    assert space.free_files <= space.files
    sync_folder(tmp_path)
