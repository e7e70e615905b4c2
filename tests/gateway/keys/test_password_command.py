"""Passwords that commands print: how long they are kept, and that nothing else of the output is."""

import base64
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cache.upstream.errors import Unavailable
from cache.upstream.tokens import Credential
from gateway.keys.password_command import (
    DEFAULT_LIFE,
    PAUSE,
    CommandFailed,
    PasswordCommand,
    read_output,
    run,
)
from gateway.keys.sealing import Sealer
from gateway.keys.shared_secret import SUFFIX, SharedSecret, delete_shared_secrets
from tests.parts.processes import wait_until

pytestmark = pytest.mark.usefixtures("processes")

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
ECR = base64.b64encode(b"AWS:open:sesame").decode()
SERVICE_ACCOUNT = '{"type": "service_account", "private_key": "open sesame"}'


@pytest.mark.parametrize(
    ("output", "password", "life"),
    [
        ("open sesame\n", "open sesame", DEFAULT_LIFE),
        (json.dumps({"password": "p", "expires_in": 3600}), "p", 3600.0),
        (json.dumps({"password": "p", "expires_at": "2026-01-01T12:00:00Z"}), "p", 43_200.0),
        (json.dumps({"password": "p", "expires_at": "2026-01-01T02:00:00+01:00"}), "p", 3600.0),
        (json.dumps({"password": "p", "expires_at": "soon"}), "p", DEFAULT_LIFE),
        (json.dumps({"password": "p"}), "p", DEFAULT_LIFE),
        (
            json.dumps({"authorizationData": [{"authorizationToken": ECR, "expiresAt": NOW + 60.5}]}),
            "open:sesame",
            60.5,
        ),
        (json.dumps({"ServerURL": "r.example", "Username": "AWS", "Secret": "s"}), "s", DEFAULT_LIFE),
        (SERVICE_ACCOUNT, SERVICE_ACCOUNT, DEFAULT_LIFE),
        ("[1]", "[1]", DEFAULT_LIFE),
        ("12345", "12345", DEFAULT_LIFE),
    ],
)
def test_a_password_is_read_with_its_life(output: str, password: str, life: float) -> None:
    assert read_output(output.encode(), NOW) == (password, life)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\n",
        b"\xff",
        b"x" * 20_000,
        json.dumps({"password": ""}).encode(),
        json.dumps({"password": "p", "expires_in": 0}).encode(),
        json.dumps({"password": "p", "expires_at": "2025-12-31T23:59:59Z"}).encode(),
        json.dumps({"authorizationData": [{"authorizationToken": "no base64"}]}).encode(),
    ],
)
def test_what_is_no_password_is_refused(output: bytes) -> None:
    with pytest.raises(CommandFailed):
        read_output(output, NOW)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def counting(tmp_path: Path, then: str = "true") -> list[str]:
    """A command that prints how often it was run."""
    return ["sh", "-c", f"echo run >> {tmp_path}/runs; wc -l < {tmp_path}/runs; {then}"]


def test_a_command_is_run_again_only_when_its_password_ends(tmp_path: Path) -> None:
    clock = Clock()
    command = PasswordCommand("registry.example", "AWS", counting(tmp_path), clock)
    assert command() == command() == Credential("AWS", "1")
    clock.now += DEFAULT_LIFE - 60
    assert command() == Credential("AWS", "2")
    clock.now -= 3600  # the clock was set back: when it ends is not known any more
    assert command() == Credential("AWS", "3")


def test_a_refused_password_is_replaced_but_not_in_a_loop(tmp_path: Path) -> None:
    clock = Clock()
    command = PasswordCommand("registry.example", "AWS", counting(tmp_path), clock)
    command.refused(command())
    assert command().password == "1"
    clock.now += PAUSE
    command.refused(Credential("AWS", "another"))
    assert command().password == "1"
    command.refused(command())
    assert command().password == "2"


def test_a_password_is_refused_at_once_also_while_the_command_runs(tmp_path: Path) -> None:
    clock, go = Clock(), tmp_path / "go"
    command = PasswordCommand("registry.example", "AWS", counting(tmp_path, f"[ ! -e {go} ] || cat {go}"), clock)
    first = command()
    os.mkfifo(go)
    clock.now += DEFAULT_LIFE
    with ThreadPoolExecutor(2) as threads:
        second = threads.submit(command)
        wait_until(lambda: (tmp_path / "runs").read_text() == "run\n" * 2)
        try:
            threads.submit(command.refused, first).result(5)
        finally:
            go.write_bytes(b"")  # returns once the command reads
        assert second.result().password == "2"


def test_a_command_that_fails_is_named_without_its_output(tmp_path: Path) -> None:
    clock = Clock()
    failing = counting(tmp_path, "echo s3cret; echo s3cret >&2; exit 3")
    command = PasswordCommand("registry.example", "AWS", failing, clock)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"password_command of upstream .* ended with status 3") as it:
            command()
        assert "s3cret" not in f"{it.value} {it.value.__cause__} {it.value.__context__}"
    assert (tmp_path / "runs").read_text() == "run\n"
    clock.now += PAUSE + 1
    with pytest.raises(Unavailable):
        command()
    assert (tmp_path / "runs").read_text() == "run\n" * 2


Worker = Callable[..., PasswordCommand]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """Makes the command as one more worker process has it."""

    def make(command: list[str], clock: Clock, context: str = "command") -> PasswordCommand:
        shared = SharedSecret(tmp_path / "keys" / f"one{SUFFIX}", Sealer(tmp_path / "keys"), context)
        return PasswordCommand("registry.example", "AWS", command, clock, shared)

    return make


def test_workers_share_what_a_command_printed(tmp_path: Path, worker: Worker) -> None:
    clock, command = Clock(), counting(tmp_path)
    workers = [worker(command, clock) for _ in range(3)]
    assert {each().password for each in workers} == {"1"}
    clock.now += DEFAULT_LIFE - 60
    assert {each().password for each in workers} == {"2"}
    assert worker(command, clock, "another command")().password == "3"


def test_workers_that_need_a_password_at_once_run_the_command_once(tmp_path: Path, worker: Worker) -> None:
    runs, go = tmp_path / "runs", tmp_path / "go"
    os.mkfifo(go)
    command = ["sh", "-c", f"echo run >> {runs}; cat {go}; wc -l < {runs}"]
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda each: each().password, [worker(command, Clock()) for _ in range(4)])
        go.write_bytes(b"")  # returns once a command reads
        assert list(found) == ["1"] * 4


def test_workers_share_the_failure_of_a_command(tmp_path: Path, worker: Worker) -> None:
    clock, failing = Clock(), counting(tmp_path, "exit 3")
    for each in (worker(failing, clock), worker(failing, clock)):
        with pytest.raises(Unavailable, match="ended with status 3"):
            each()
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_password_that_one_worker_was_refused_is_replaced_for_all(tmp_path: Path, worker: Worker) -> None:
    clock, command = Clock(), counting(tmp_path)
    one, two = worker(command, clock), worker(command, clock)
    assert one() == two() == Credential("AWS", "1")
    clock.now += PAUSE
    one.refused(one())
    assert (one().password, two().password) == ("2", "1")
    two.refused(two())
    assert two().password == "2"
    assert (tmp_path / "runs").read_text() == "run\n" * 2


def test_a_shared_password_is_sealed_and_ends_with_its_server(tmp_path: Path, worker: Worker) -> None:
    keys = tmp_path / "keys"
    worker(["echo", "open sesame"], Clock())()
    assert [path.name for path in keys.glob(f"*{SUFFIX}")] == [f"one{SUFFIX}"]
    assert all(b"sesame" not in path.read_bytes() and path.stat().st_mode & 0o077 == 0 for path in keys.iterdir())
    delete_shared_secrets(keys)
    assert list(keys.glob(f"*{SUFFIX}")) == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"v1.none.AAAA", b"x" * 1_000_000])
def test_a_shared_file_that_is_damaged_is_written_anew(tmp_path: Path, worker: Worker, content: bytes) -> None:
    command = counting(tmp_path)
    worker(command, Clock())()
    (tmp_path / "keys" / f"one{SUFFIX}").write_bytes(content)
    assert [worker(command, Clock())().password for _ in range(2)] == ["2", "2"]


def test_without_a_place_for_the_file_each_worker_runs_the_command(tmp_path: Path, worker: Worker) -> None:
    (tmp_path / "keys").write_text("no folder")
    command = counting(tmp_path)
    assert [worker(command, Clock())().password for _ in range(2)] == ["1", "2"]


def test_a_command_is_run_without_a_shell_and_without_input(tmp_path: Path) -> None:
    assert run(["echo", "$HOME; exit 1"]) == b"$HOME; exit 1\n"
    assert run(["cat"]) == b""
    with pytest.raises(CommandFailed, match="cannot be run"):
        run([str(tmp_path / "none")])
    with pytest.raises(CommandFailed, match="cannot be run"):
        run(["a\0b"])


def has_ended(process: str) -> bool:
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_command_that_hangs_or_floods_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="took more than 2 s"):
        run(["sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/child; wait"], 2)
    wait_until(lambda: has_ended((tmp_path / "child").read_text().strip()))
    with pytest.raises(CommandFailed, match="printed more than"):
        run(["head", "-c", "200000", "/dev/zero"])
