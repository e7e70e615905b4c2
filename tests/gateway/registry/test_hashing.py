"""Hashes that are saved and loaded."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.registry import hashing
from gateway.registry.hashing import load_sha256, new_sha256

DATA = bytes(range(256)) * 5000


@pytest.fixture
def without_libcrypto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Python whose libcrypto shows no functions."""
    monkeypatch.setattr(hashing, "_libcrypto", lambda: None)
    yield


@pytest.mark.parametrize("split", [0, 1, 63, 64, 65, 1000, len(DATA) - 1, len(DATA)])
def test_a_saved_hash_continues_where_it_was(split: int) -> None:
    first = new_sha256()
    first.update(DATA[:split])
    state = first.save()
    assert state is not None
    second = load_sha256(state)
    assert second is not None
    second.update(DATA[split:])
    assert second.hexdigest() == hashlib.sha256(DATA).hexdigest()
    assert first.hexdigest() == hashlib.sha256(DATA[:split]).hexdigest()


def test_a_state_of_more_than_four_gigabits_keeps_its_length() -> None:
    hash, piece = new_sha256(), bytes(1 << 20)
    for _ in range(513):
        hash.update(piece)
    state = hash.save()
    assert state is not None
    loaded = load_sha256(state)
    assert loaded is not None
    loaded.update(b"end")
    expected = hashlib.sha256()
    for _ in range(513):
        expected.update(piece)
    expected.update(b"end")
    assert loaded.hexdigest() == expected.hexdigest()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=["bytes", "writable view", "read-only view"])
def test_every_kind_of_bytes_is_hashed(kind: type) -> None:
    hash = new_sha256()
    for piece in (DATA[:100], b"", DATA[100:]):
        hash.update(memoryview(kind(piece)) if kind is not bytes else piece)
    assert hash.hexdigest() == hashlib.sha256(DATA).hexdigest()


def test_a_state_is_the_same_in_another_process() -> None:
    script = (
        "import sys; from gateway.registry.hashing import new_sha256;"
        "hash = new_sha256(); hash.update(b'abc' * 1000); sys.stdout.buffer.write(hash.save())"
    )
    state = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout
    loaded = load_sha256(state)
    assert loaded is not None
    assert loaded.hexdigest() == hashlib.sha256(b"abc" * 1000).hexdigest()


@pytest.mark.parametrize("state", [b"", b"x" * 39, b"\0" * 40 + b"surplus", b"\0" * 200])
def test_what_is_no_state_is_not_loaded(state: bytes) -> None:
    assert load_sha256(state) is None


def test_a_hash_ends_with_the_digest_also_where_nothing_can_be_saved(without_libcrypto: None) -> None:
    hash = new_sha256()
    hash.update(DATA)
    assert hash.hexdigest() == hashlib.sha256(DATA).hexdigest()
    assert hash.save() is None
    assert load_sha256(bytes(40)) is None
