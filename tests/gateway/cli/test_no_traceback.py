"""Commands that fail: each says so in lines of its own, and none prints a traceback."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.last_resort import guarded
from tests.parts.forks import COMMAND, ROOT, run_gateway, start
from tests.parts.processes import plain_environment

GARBAGE = b"garbage!" * 4096
COMMANDS = {
    "group list": ["group", "list"],
    "group create": ["group", "create", "new"],
    "keys rotate": ["keys", "rotate"],
    "cache status": ["cache", "status"],
    "cache list": ["cache", "list"],
    "cache verify": ["cache", "verify"],
    "cache evict": ["cache", "evict", "--all"],
    "cache explain": ["cache", "explain", "alpine"],
    "quota": ["quota"],
    "audit list": ["audit", "list"],
    "verify": ["verify"],
    "db check": ["db", "check"],
    "backup": ["backup", "backup.tar"],
    "repository list": ["repository", "list"],
}

pytestmark = pytest.mark.usefixtures("processes")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Iterator[Run]:
    environment = plain_environment(PYTHONPATH=str(ROOT), NO_COLOR="1")

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return run_gateway([*words, "--data", str(data)], environment, tmp_path, "", 120)

    assert run("group", "create", "one").returncode == 0
    assert run("cache", "status").returncode == 0
    yield run


def damage(file: Path) -> None:
    for beside in file.parent.glob(f"{file.name}-*"):
        beside.unlink()
    file.write_bytes(GARBAGE)


def replace_by_folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


def replace_by_file(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    if file.is_dir():
        file.rmdir()
    file.write_bytes(GARBAGE)


@pytest.mark.parametrize(
    ("name", "breakage"),
    [
        *((name, damage) for name in ("gateway.db", "cache.db", "usage.db", "audit.db", "quota.json", "run.json")),
        *(
            (name, replace_by_folder)
            for name in ("gateway.db", "usage.db", "audit.db", "gateway.db.lock", "quota.json")
        ),
        *((name, replace_by_file) for name in ("keys", "cache")),
    ],
)
def test_whatever_is_broken_a_line_says_so(
    name: str, breakage: Callable[[Path], None], run: Run, data: Path, tmp_path: Path
) -> None:
    breakage(data / name)
    for words in COMMANDS.values():
        done = run(*words)
        lines = done.stderr.splitlines()
        failures = [line for line in lines if not line.startswith("registry-gateway: warning: ")]
        assert done.returncode == (1 if failures else 0), (words, lines)
        assert all(line.startswith("registry-gateway: ") for line in lines), (words, lines)
        assert "unexpected error" not in done.stderr, (words, lines)


@pytest.mark.parametrize("words", [["group", "list"], ["help"], ["cache", "status"]])
def test_output_that_nobody_takes_is_no_traceback(words: list[str], run: Run, data: Path, tmp_path: Path) -> None:
    words = words if words == ["help"] else [*words, "--data", str(data)]
    environment = plain_environment(PYTHONPATH=str(ROOT), NO_COLOR="1")
    with (
        open(os.devnull, "rb") as nothing,
        open("/dev/full", "wb") as full,
        (tmp_path / "errors").open("wb") as errors,
    ):
        assert start([*COMMAND, *words], environment, tmp_path, (nothing, full, errors)).wait(60) == 1
        text = (tmp_path / "errors").read_text()
        assert text.startswith("registry-gateway: the output cannot be written (No space left on device)")
        assert text.count("\n") == 1
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as pipe:
            assert start([*COMMAND, *words], environment, tmp_path, (nothing, pipe, errors)).wait(60) == 1
        assert (tmp_path / "errors").read_text() == text, "a reader that has left needs no message"


def test_an_error_that_nobody_expected_is_one_line_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise KeyError("lost\nthings")

    with pytest.raises(SystemExit, match="1"):
        guarded(command)
    text = capsys.readouterr().err
    assert text.startswith("registry-gateway: unexpected error (KeyError: ")
    assert "test_no_traceback.py:" in text
    assert text.count("\n") == 1
