"""Sealing: key files, and secrets that only their own context opens."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.keys.sealing import KEY_FILE, SealBroken, Sealer


def test_the_same_secret_is_sealed_differently_each_time(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "keys")
    first, second = sealer.seal("päss", "c"), sealer.seal("päss", "c")
    assert first != second
    assert sealer.open(first, "c") == sealer.open(second, "c") == "päss"


def test_the_key_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    Sealer(tmp_path / "keys").seal("s", "c")
    assert [file.name for file in (tmp_path / "keys").iterdir()] == [KEY_FILE]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_sixteen_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        sealed = list(pool.map(lambda _: Sealer(tmp_path / "keys").seal("s", "c"), range(16)))
    assert {Sealer(tmp_path / "keys").open(text, "c") for text in sealed} == {"s"}
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_a_key_put_before_the_others_seals_and_the_others_still_open(tmp_path: Path) -> None:
    old = Sealer(tmp_path / "old").seal("s", "c")
    Sealer(tmp_path / "new").seal("s", "c")
    both = (tmp_path / "new" / KEY_FILE).read_text() + (tmp_path / "old" / KEY_FILE).read_text()
    (tmp_path / "old" / KEY_FILE).write_text(both)
    sealer = Sealer(tmp_path / "old")
    assert sealer.open(old, "c") == "s"
    assert Sealer(tmp_path / "new").open(sealer.seal("t", "c"), "c") == "t"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read .No such file or directory.: restore that file, or set the passwords again"),
        ("", "is empty: restore that file"),
        ("one-word", "is damaged: restore that file"),
        ("id c2hvcnQ=", "is damaged: restore that file"),
        ("id " + "A" * 43 + "=", "no key '[0-9a-f]{8}' in .*, with which a password was sealed: restore that file, or"),
    ],
)
def test_a_lost_key_is_named(tmp_path: Path, content: str | None, reason: str) -> None:
    sealed = Sealer(tmp_path).seal("s", "c")
    (tmp_path / KEY_FILE).unlink()
    if content is not None:
        (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(SealBroken, match=reason):
        Sealer(tmp_path).open(sealed, "c")


@pytest.mark.parametrize("damage", [lambda text: text[:-6] + "AAAAAA", lambda text: text[:20], lambda text: text[:-1]])
def test_an_altered_secret_does_not_open(tmp_path: Path, damage: Callable[[str], str]) -> None:
    sealer = Sealer(tmp_path)
    with pytest.raises(SealBroken, match=r"a sealed password \(c\) was altered: set the password again"):
        sealer.open(damage(sealer.seal("secret", "c")), "c")
