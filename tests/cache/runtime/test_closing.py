"""A large file is freed outside the event loop, which would wait for the kernel."""

import os
import threading
from pathlib import Path

import pytest

from cache.runtime import closing
from tests.parts.processes import wait_until


@pytest.mark.parametrize("size, named, elsewhere", [(5_000, False, True), (5_000, True, False), (10, False, False)])
def test_a_large_file_without_a_name_is_closed_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, named: bool, elsewhere: bool
) -> None:
    closed: list[tuple[int, bool]] = []
    close = os.close

    def noted(descriptor: int) -> None:
        close(descriptor)
        closed.append((descriptor, threading.current_thread() is not threading.main_thread()))

    monkeypatch.setattr(closing, "LARGE", 1_000)
    monkeypatch.setattr(closing.os, "close", noted)
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    descriptor = os.open(path, os.O_RDONLY)
    if not named:
        path.unlink()
    closing.close_soon(descriptor)
    wait_until(lambda: closed, what="the file stays open")
    assert closed == [(descriptor, elsewhere)]
