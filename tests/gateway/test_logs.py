"""How log lines are written."""

import json
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from gateway import logs


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
