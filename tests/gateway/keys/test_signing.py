"""Signing keys: their file, rotation with overlap, and processes that share it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.keys.signing import (
    LOCK_FILE,
    LOOK_EVERY,
    OVERLAP,
    SIGNING_KEY_FILE,
    SigningKeys,
    SigningKeysUnusable,
    rotate,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_file_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    key = SigningKeys(tmp_path / "keys").current(NOW)
    assert [file.name for file in (tmp_path / "keys").iterdir()] == [SIGNING_KEY_FILE]
    assert (tmp_path / "keys" / SIGNING_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert key.created_at == NOW
    assert SigningKeys(tmp_path / "keys").current(NOW) == key


def test_sixteen_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: SigningKeys(tmp_path / "keys").current(NOW).id, range(16)))
    assert len(set(keys)) == 1
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_after_a_rotation_the_new_key_signs_and_the_old_one_verifies_until_its_last_token_expired(
    tmp_path: Path,
) -> None:
    seconds = Seconds()
    keys = SigningKeys(tmp_path, seconds)
    old = keys.current(NOW)
    rotate(tmp_path, NOW)
    seconds.now = LOOK_EVERY
    new = keys.current(NOW)
    assert new.id != old.id
    last = NOW + OVERLAP - timedelta(seconds=1)
    assert keys.find(old.id, last) is not None
    assert [key.id for key in keys.published(last)] == [old.id, new.id]
    assert keys.find(old.id, NOW + OVERLAP) is None
    assert [key.id for key in keys.published(NOW + OVERLAP)] == [new.id]


def test_a_key_that_another_process_made_is_found_at_once(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path, lambda: 0.0)
    keys.current(NOW)
    new = rotate(tmp_path, NOW)[-1]
    assert keys.find(new.id, NOW) == new
    assert keys.find("../signing.keys", NOW) is None


def test_a_rotation_deletes_keys_that_verify_nothing_any_more(tmp_path: Path) -> None:
    first = SigningKeys(tmp_path).current(NOW)
    assert len(rotate(tmp_path, NOW)) == 2
    later = NOW + OVERLAP
    assert first.id not in {key.id for key in rotate(tmp_path, later)}
    assert [key.retired_at for key in SigningKeys(tmp_path).published(later)] == [later, None]
    assert (tmp_path / SIGNING_KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    SigningKeys(tmp_path).current(NOW)
    with ThreadPoolExecutor(8) as pool:
        made = [keys[-1].id for keys in pool.map(lambda _: rotate(tmp_path, NOW), range(8))]
    assert {key.id for key in SigningKeys(tmp_path).published(NOW)} >= set(made)
    assert {file.name for file in tmp_path.iterdir()} == {SIGNING_KEY_FILE, LOCK_FILE}


@pytest.mark.parametrize("content", ["", "one-word", "a 2026-01-01T00:00:00+00:00 - c2hvcnQ"])
def test_a_damaged_file_is_named_and_keys_in_memory_outlive_it(tmp_path: Path, content: str) -> None:
    seconds = Seconds()
    keys = SigningKeys(tmp_path, seconds)
    key = keys.current(NOW)
    (tmp_path / SIGNING_KEY_FILE).write_text(content)
    seconds.now = 1.0
    assert keys.current(NOW) == key
    with pytest.raises(SigningKeysUnusable, match="restore it, or delete it"):
        SigningKeys(tmp_path).current(NOW)


def test_a_key_cannot_be_given_the_id_of_another(tmp_path: Path) -> None:
    SigningKeys(tmp_path).current(NOW)
    line = (tmp_path / SIGNING_KEY_FILE).read_text()
    (tmp_path / SIGNING_KEY_FILE).write_text(f"another {line.split(maxsplit=1)[1]}")
    with pytest.raises(SigningKeysUnusable, match="is damaged"):
        SigningKeys(tmp_path).current(NOW)


def test_a_key_that_was_replaced_by_a_clock_that_was_ahead_verifies_nothing(tmp_path: Path) -> None:
    """Otherwise it would as long as the clock was ahead, though it was replaced because somebody has it."""
    old = SigningKeys(tmp_path).current(NOW)
    rotate(tmp_path, NOW + timedelta(days=400))
    keys = SigningKeys(tmp_path)
    assert keys.find(old.id, NOW) is None
    assert len(keys.published(NOW)) == 1
