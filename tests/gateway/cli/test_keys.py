"""`keys`: listing and rotation on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.keys.signing import SIGNING_KEY_FILE


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    assert CliRunner().invoke(app, ["group", "create", "team", "--data", str(folder)]).exit_code == 0
    return folder


def keys(data: Path, *words: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["keys", *words, "--data", str(data), "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_rotation_is_listed_with_the_key_that_signs_first_and_no_private_key(data: Path) -> None:
    (first,) = keys(data, "list")
    assert set(first) == {"id", "created", "used_for"}
    assert first["used_for"] == "signing tokens"
    rotated = keys(data, "rotate")
    assert [key["id"] == first["id"] for key in rotated] == [False, True]
    assert rotated[1]["used_for"].startswith("verifying tokens until ")
    assert keys(data, "list") == rotated


def test_a_damaged_file_is_refused_with_what_to_do(data: Path) -> None:
    keys(data, "list")
    (data / "keys" / SIGNING_KEY_FILE).write_text("damaged")
    result = CliRunner().invoke(app, ["keys", "rotate", "--data", str(data)])
    assert result.exit_code == 1
    assert "is damaged: restore it, or delete it" in result.stderr
    assert (data / "keys" / SIGNING_KEY_FILE).read_text() == "damaged"
