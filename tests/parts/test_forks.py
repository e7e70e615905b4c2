"""Forked commands do what new interpreters do."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.parts import forks
from tests.parts.forks import COMMAND, Fork, run_gateway, start
from tests.parts.gateway import Gateway
from tests.parts.processes import plain_environment

ENVIRONMENT = plain_environment(PYTHONPATH=str(forks.ROOT), GATEWAY_PORT="8123")


@pytest.mark.parametrize(
    ("words", "status"),
    [(("config", "show"), 0), (("config", "check", "--config", "absent.toml"), 1), (("no-such-command",), 2)],
)
def test_a_fork_prints_and_returns_what_a_new_interpreter_does(
    words: tuple[str, ...], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = run_gateway(words, ENVIRONMENT, tmp_path, "", 60)
    monkeypatch.setattr(forks, "fork_server", lambda: None)
    fresh = run_gateway(words, ENVIRONMENT, tmp_path, "", 60)
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
    assert forked.returncode == status


def test_a_fork_is_a_child_in_a_session_of_its_own(scratch: Path, processes: None) -> None:
    server = Gateway(scratch)
    server.start()
    pid = server.process.pid
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
    assert os.getsid(pid) == pid != os.getsid(0)
    server.process.signal(signal.SIGKILL)
    assert server.process.wait(30) == -signal.SIGKILL
    assert not server.process.running


def test_a_wait_for_a_fork_ends_when_it_lasts_too_long(scratch: Path, processes: None) -> None:
    server = Gateway(scratch)
    with open(os.devnull, "rb") as nothing, open(os.devnull, "wb") as dropped:
        words = [*COMMAND, "serve", "--port=0", f"--data={server.data}"]
        child = start(words, ENVIRONMENT, scratch, (nothing, dropped, dropped))
    assert isinstance(child, Fork)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(30) == child.poll() == -signal.SIGKILL
