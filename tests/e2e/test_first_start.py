"""First start of a server as its users run it: what a terminal and a log show of the administrator's password."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory
from tests.parts.processes import plain_environment

ROOT = Path(__file__).parents[2]


def test_no_log_holds_the_first_password(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2})
    file = server.data / "keys" / "root-password"
    password = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    server.restart()
    server.stop()
    assert file.read_text().strip() == password
    assert server.log_text().count(f"administrator root, password in {file} until it is changed\n") == 2
    others = [path for path in server.directory.rglob("*") if path.is_file() and path != file]
    assert [path for path in others if password.encode() in path.read_bytes()] == []
    assert [user["name"] for user in server.json("user", "list")] == ["root"]


@pytest.fixture
def terminal(processes: None) -> Iterator[tuple[int, int]]:
    """Opens a terminal; yields what a person reads from, and what a process writes to."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_a_terminal_shows_the_first_password(terminal: tuple[int, int], scratch: Path) -> None:
    person, screen = terminal
    words = ["serve", "--data", str(scratch / "data"), "--port", "0", "--workers", "1"]
    environment = plain_environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "gateway", *words]
    with subprocess.Popen(command, stdout=screen, stderr=subprocess.PIPE, env=environment, cwd=scratch) as serving:
        try:
            shown = b""
            while b"skopeo inspect" not in shown:
                shown += os.read(person, 4096)
        finally:
            serving.terminate()
        assert serving.stderr is not None
        log = serving.stderr.read().decode()
    password = (scratch / "data" / "keys" / "root-password").read_text().strip()
    found = re.search(r"administrator root, password (\S+) \(in (\S+) until it is changed\)", shown.decode())
    assert found is not None
    assert found.groups() == (password, str(scratch / "data" / "keys" / "root-password"))
    assert password not in log
