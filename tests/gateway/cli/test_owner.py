"""The user of a data folder: root acts as that user, and nobody else acts at all."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.forks import COMMAND, ROOT, run_gateway, start
from tests.parts.processes import plain_environment, wait_until

OWNER, STRANGER = 65534, 54321

pytestmark = [
    pytest.mark.usefixtures("processes"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others"),
    pytest.mark.skipif(
        any(not folder.stat().st_mode & 0o001 for folder in (ROOT, *ROOT.parents)),
        reason="others cannot read this checkout",
    ),
]


class Machine:
    """A machine with a data folder of OWNER, a folder that anybody may use, and one for root alone."""

    def __init__(self, folder: Path) -> None:
        self.public, self.secret = folder / "public", folder / "secret"
        self.public.mkdir()
        self.public.chmod(0o777)
        self.secret.mkdir(0o700)
        self.data = self.public / "data"
        self.environment = plain_environment(PYTHONPATH=str(ROOT), NO_COLOR="1")

    def run(self, *words: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
        words = (*words, "--data", str(self.data))
        return run_gateway(words, self.environment, self.public, "", 120, user)

    def owners(self) -> set[int]:
        """Users to whom anything in the data folder belongs."""
        return {path.stat().st_uid for path in (self.data, *self.data.rglob("*"))}


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder))
        made = machine.run("group", "create", "one", user=OWNER)
        assert made.returncode == 0, made.stderr
        yield machine


def test_what_root_writes_belongs_to_the_owner_and_what_root_names_is_read(machine: Machine) -> None:
    password, config = machine.secret / "password", machine.secret / "config.toml"
    password.write_text("secret of root")
    config.write_text('[upstreams."quay.io"]\n')
    words = ["--upstream-username=u", f"--upstream-password-file={password}", f"--config={config}"]
    done = machine.run("group", "create", "two", "--default-upstream=quay.io", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.run("keys", "rotate").returncode == 0
    assert len(list((machine.data / "keys").iterdir())) >= 2
    assert machine.owners() == {OWNER}
    assert "two" in machine.run("group", "list", user=OWNER).stdout


def test_root_restores_a_backup_that_others_cannot_read(machine: Machine) -> None:
    file = machine.secret / "backup"
    assert machine.run("backup", str(file)).returncode == 0
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o600)
    assert machine.owners() == {OWNER}
    restored = machine.run("restore", str(file))
    assert (restored.returncode, restored.stderr) == (0, "")
    assert machine.owners() == {OWNER}


def test_a_server_that_root_starts_runs_as_the_owner(machine: Machine) -> None:
    with tempfile.TemporaryFile() as nothing, (machine.secret / "log").open("wb") as log:
        words = ["serve", "--port=0", "--workers=1", "--data", str(machine.data)]
        server = start([*COMMAND, *words], machine.environment, machine.public, (nothing, log, log))
        try:
            wait_until(lambda: b" started " in (machine.secret / "log").read_bytes())
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert re.search(r"^Uid:(\t65534){4}$", status, re.MULTILINE)
            assert re.search(r"^Gid:(\t65534){4}$", status, re.MULTILINE)
        finally:
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait(60) == 0, (machine.secret / "log").read_text()
    assert machine.owners() == {OWNER}


def test_settings_that_root_alone_reads_are_told_of_at_the_start_and_at_a_reload(machine: Machine) -> None:
    config, log = machine.secret / "config.toml", machine.secret / "log"
    config.write_text("")
    with tempfile.TemporaryFile() as nothing, log.open("wb") as written:
        words = ["serve", "--port=0", "--workers=1", "--data", str(machine.data), "--config", str(config)]
        server = start([*COMMAND, *words], machine.environment, machine.public, (nothing, written, written))
        try:
            wait_until(lambda: b" started " in log.read_bytes())
            assert f"{config} cannot be read by the user of this server" in log.read_text()
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: b"reload_refused" in log.read_bytes())
            assert "let user nobody read it, and enter the folders above it" in log.read_text()
        finally:
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait(60) == 0, log.read_text()


@pytest.mark.parametrize("mode", [0o700, 0o777])
@pytest.mark.parametrize("command", ["group list", "quota", "db check", "user create eve", "serve --port=0"])
def test_another_user_is_told_as_whom_to_run_it(machine: Machine, command: str, mode: int) -> None:
    machine.data.chmod(mode)
    done = machine.run(*command.split(), user=STRANGER)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"belongs to user nobody, and this command runs as #{STRANGER}: run it as nobody" in done.stderr
    assert machine.owners() == {OWNER}


def test_a_folder_that_cannot_be_reached_is_named(machine: Machine) -> None:
    machine.public.chmod(0o700)
    done = run_gateway(
        ["group", "list", "--data", str(machine.data)], machine.environment, Path("/"), "", 120, STRANGER
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"data folder {machine.data} cannot be reached (Permission denied)" in done.stderr


def test_a_volume_of_root_is_used_by_whoever_may_write_to_it(machine: Machine) -> None:
    volume = machine.public / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    for user in (OWNER, OWNER, None):
        done = run_gateway(["group", "list", "--data", str(volume)], machine.environment, machine.public, "", 120, user)
        if user is not None and not (volume / "gateway.db").exists():
            assert "there is no data folder" in done.stderr
            words = ["group", "create", "a", "--data", str(volume)]
            assert run_gateway(words, machine.environment, machine.public, "", 120, user).returncode == 0
        else:
            assert (done.returncode, done.stderr) == (0, "")
    assert {path.stat().st_uid for path in volume.rglob("*")} == {OWNER}


def test_settings_are_shown_to_everybody(machine: Machine) -> None:
    assert machine.run("config", "show", user=STRANGER).returncode == 0
