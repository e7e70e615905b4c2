"""Log lines: their forms, and lines of several processes in one file."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog

from gateway.observability import logs
from gateway.observability.log_lines import WholeLines


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def fail() -> None:
    password = "hunter2".upper()
    raise ZeroDivisionError(f"{len(password)} characters")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_where_it_failed_and_no_variable(
    form: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(form)
    try:
        fail()
    except ZeroDivisionError:
        structlog.get_logger().exception("request_failed", request_id="7")
    written = capsys.readouterr().err
    assert "request_failed" in written
    assert "in fail" in written
    assert "7 characters" in written
    assert "HUNTER2" not in written


def test_a_line_for_machines_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    structlog.get_logger().info("request", path="/v2/\nforged", status=404)
    (line,) = capsys.readouterr().err.splitlines()
    written = json.loads(line)
    assert written.pop("timestamp").endswith("Z")
    assert written == {"event": "request", "level": "info", "path": "/v2/\nforged", "status": 404}


def test_no_value_can_forge_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("console")
    structlog.get_logger().info("request", path="/v2/\n2025-01-01 [info] forged")
    assert len(capsys.readouterr().err.splitlines()) == 1


def write_from_several(writing: int) -> list[int]:
    """Fork processes that each write lines of one letter; returns their process ids and closes the descriptor."""
    workers = []
    for letter in "abcd":
        pid = os.fork()
        if not pid:
            with os.fdopen(writing, "w") as file:
                lines = WholeLines(file)
                for _ in range(200):
                    lines.write("".join(f"{letter * 150}\n" for _ in range(60)))
            os._exit(0)
        workers.append(pid)
    os.close(writing)
    return workers


@pytest.mark.usefixtures("processes")
def test_lines_of_several_processes_arrive_whole_in_a_pipe() -> None:
    reading, writing = os.pipe()
    workers = write_from_several(writing)
    with os.fdopen(reading) as file:
        seen = Counter(file.read().splitlines())
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0, 0, 0, 0]
    assert seen == {letter * 150: 12_000 for letter in "abcd"}


@pytest.mark.parametrize("appending", [0, os.O_APPEND], ids=["one offset for all", "at its end"])
@pytest.mark.usefixtures("processes")
def test_lines_of_several_processes_arrive_whole_in_a_file(appending: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    workers = write_from_several(os.open(path, os.O_WRONLY | os.O_CREAT | appending, 0o600))
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0, 0, 0, 0]
    assert Counter(path.read_text().splitlines()) == {letter * 150: 12_000 for letter in "abcd"}


def test_a_worker_signs_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", worker=7)
    structlog.get_logger().info("request")
    assert json.loads(capsys.readouterr().err)["worker"] == 7
