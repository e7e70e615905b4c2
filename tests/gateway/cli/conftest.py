"""Fixtures of the tests of commands."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer import testing
from typer.main import get_command

from gateway.cli import serve as serve_command
from gateway.processes import supervisor
from tests.gateway.cli.starts import Starts
from tests.gateway.cli.terminal import Terminal


@pytest.fixture(scope="session", autouse=True)
def commands_built_once() -> Iterator[None]:
    """Builds the tree of commands for the first test alone: that takes longer than most commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing, "_get_command", cache(get_command))
        yield


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    """Starts of `serve`, which serve nothing."""
    starts = Starts()
    monkeypatch.setattr(supervisor, "serve", starts.serve)
    monkeypatch.setattr(serve_command, "print_briefly", lambda text: print(text, end=""))  # it needs a descriptor
    return starts


@pytest.fixture
def backup(filled: Terminal) -> Path:
    """Makes a backup of the data folder that a module fills."""
    file = filled.folder / "backup.tar"
    filled.done("backup", str(file))
    return file
