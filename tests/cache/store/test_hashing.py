"""The writer of one stream: whole and in order, with few buffers while the stream is slow."""

import hashlib
import random
import threading
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.store.hashing import BUFFER, BUFFERS, LARGE_BUFFER, THREAD_FROM, BufferPool, HashingWriter
from cache.store.spool import Spool


class CountedPool(BufferPool):
    """Counts the buffers that are taken now, and those that were ever taken."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.taken = self.ever = 0

    def take(self) -> memoryview | None:
        buffer = super().take()
        self.taken += buffer is not None
        self.ever += buffer is not None
        return buffer

    def give_back(self, buffer: memoryview) -> None:
        self.taken -= 1
        super().give_back(buffer)


def hash_threads() -> int:
    return sum(thread.name == "hash" for thread in threading.enumerate())


def write_all(writer: HashingWriter, content: bytes, at_once: int) -> None:
    view = memoryview(content)
    while view:
        buffer = writer.buffer()
        count = min(len(buffer), len(view), at_once)
        buffer[:count] = view[:count]
        writer.write(buffer, count)
        view = view[count:]


@pytest.mark.parametrize("at_once", [1000, BUFFER, LARGE_BUFFER])
@pytest.mark.parametrize("free", [0, 1, 10])
@pytest.mark.parametrize("known", [True, False])
def test_all_bytes_are_written_and_hashed_whatever_buffers_are_free(
    tmp_path: Path, at_once: int, free: int, known: bool
) -> None:
    content, pool, grown = random.Random(at_once).randbytes(5_000_000), CountedPool(free), list[int]()
    with Spool.begin(tmp_path / "a.part", "sha256") as spool:
        with HashingWriter(spool, grown.append, len(content) if known else None, pool) as writer:
            write_all(writer, content, at_once)
        assert spool.path.read_bytes() == content
        spool.seal(Digest("sha256", hashlib.sha256(content).hexdigest()), len(content))
    assert grown == sorted(grown)
    assert grown[-1] == len(content)
    assert pool.taken == 0
    assert bool(pool.ever) == (free > 0 and at_once >= BUFFER)


def test_a_stream_that_trickles_has_no_large_buffer_and_no_second_thread(tmp_path: Path) -> None:
    before, pool = hash_threads(), CountedPool(10)
    with Spool.begin(tmp_path / "a.part", "sha256") as spool:
        with HashingWriter(spool, lambda size: None, None, pool) as writer:
            write_all(writer, bytes(THREAD_FROM - 1), BUFFER - 1)
            assert hash_threads() == before
            assert writer._free.qsize() == 1 < BUFFERS
            write_all(writer, b"1", 1)
            assert hash_threads() == before + 1
        assert pool.ever == 0
    assert hash_threads() == before


def test_a_buffer_that_was_not_written_is_given_back(tmp_path: Path) -> None:
    pool = CountedPool(1)
    with (
        Spool.begin(tmp_path / "a.part", "sha256") as spool,
        pytest.raises(OSError, match="gone"),
        HashingWriter(spool, lambda size: None, None, pool) as writer,
    ):
        write_all(writer, bytes(BUFFER), BUFFER)
        assert len(writer.buffer()) == LARGE_BUFFER
        raise OSError("gone")
    assert pool.taken == 0
