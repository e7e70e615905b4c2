"""Which settings file a command reads where none is given."""

import json
import os
from pathlib import Path

import pytest

from gateway import data_folder
from gateway.cli import settings_file
from gateway.cli.settings_file import file_of_command, file_of_server
from gateway.settings.load import load
from tests.conftest import GatewayFactory
from tests.parts.commands import invoke


@pytest.fixture(autouse=True)
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the usual file would be; there is none yet."""
    path = tmp_path / "etc" / "config.toml"
    path.parent.mkdir()
    monkeypatch.setattr(settings_file, "USUAL_FILE", path)
    monkeypatch.chdir(tmp_path)
    return path


def test_a_given_file_comes_first_then_the_variable_then_the_usual_one(tmp_path: Path, usual: Path) -> None:
    given, named = tmp_path / "given.toml", tmp_path / "named.toml"
    assert file_of_server(None, {}) is None
    usual.write_text("")
    assert file_of_server(None, {}) == usual
    assert file_of_server(None, {"GATEWAY_CONFIG": ""}) == usual
    assert file_of_server(None, {"GATEWAY_CONFIG": str(named)}) == named
    assert file_of_server(given, {"GATEWAY_CONFIG": str(named)}) == given


@pytest.mark.parametrize("place", ["given", "environment", "file", "default"])
def test_the_file_of_the_running_server_comes_before_the_variable(tmp_path: Path, usual: Path, place: str) -> None:
    data = tmp_path / "registry-data" if place == "default" else tmp_path / "data"
    data.mkdir()
    environ, flag = {"GATEWAY_CONFIG": str(tmp_path / "named.toml")}, None
    (tmp_path / "named.toml").write_text("")
    if place == "given":
        flag = str(data)
    elif place == "environment":
        environ["GATEWAY_DATA"] = str(data)
    elif place == "file":
        (tmp_path / "named.toml").write_text(f'data = "{data}"\n')
    assert file_of_command(None, flag, environ) == (tmp_path / "named.toml", flag)
    data_folder.announce_server(data, ["http://127.0.0.1:1"], [], tmp_path / "of-server.toml")
    found, folder = file_of_command(None, flag, environ)
    assert found == tmp_path / "of-server.toml"
    assert Path(str(folder)).absolute() == data
    given = tmp_path / "given.toml"
    assert file_of_command(given, flag, environ) == (given, flag)


def test_a_server_without_a_file_has_commands_read_none(tmp_path: Path, usual: Path) -> None:
    usual.write_text("port = 1\n")
    data_folder.announce_server(tmp_path, ["http://127.0.0.1:1"], [])
    assert file_of_command(None, str(tmp_path), {}) == (None, str(tmp_path))


@pytest.mark.parametrize("content", ['{"pid": %d, "addresses": []}', "[%d]", "no JSON %d"])
def test_a_server_that_does_not_say_which_leaves_the_usual_file(tmp_path: Path, usual: Path, content: str) -> None:
    usual.write_text("")
    data_folder.run_file(tmp_path).write_text(content % os.getpid())
    assert file_of_command(None, str(tmp_path), {}) == (usual, str(tmp_path))


def test_a_server_that_has_died_decides_nothing(tmp_path: Path, usual: Path) -> None:
    usual.write_text("")
    data_folder.announce_server(tmp_path, [], [], tmp_path / "of-server.toml")
    text = data_folder.run_file(tmp_path).read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194305')
    data_folder.run_file(tmp_path).write_text(text)
    assert file_of_command(None, str(tmp_path), {}) == (usual, str(tmp_path))


def test_the_variable_that_names_the_file_is_no_setting(tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    named.write_text("port = 8123\n")
    assert load(named, {"GATEWAY_CONFIG": str(named)}, {}).settings.port == 8123


def test_commands_beside_a_server_use_its_file(gateway: GatewayFactory) -> None:
    server = gateway({"ns_group": "mirror"})
    shown = {
        row["name"]: row for row in json.loads(invoke(["config", "show", "--json", f"--data={server.data}"]).stdout)
    }
    assert (shown["ns_group"]["value"], shown["ns_group"]["source"]) == ("mirror", f"file {server.config_file}")
