"""The data folder: what a server and commands leave in it is for one user, and a folder of others is reported."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.liar import Liar
from tests.parts.processes import wait_until


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    """Set the umask of what this test starts."""
    before = os.umask(0o022)
    yield lambda mask: (os.umask(mask), None)[1]
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """Modes of all that is in a folder, and of the folder, where others may do anything with it."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        mode = path.lstat().st_mode
        if mode & 0o077:
            found[str(path.relative_to(folder))] = stat.filemode(mode)
    return found


def run_commands(server: Gateway, image: str) -> None:
    """Run commands that write keys, databases, blobs and limits."""
    (server.directory / "password").write_text("s3cret")
    (server.directory / "list").write_text(f"{image}\n")
    login = ["--upstream-username", "u", f"--upstream-password-file={server.directory / 'password'}"]
    warm = ["cache", "warm", str(server.directory / "list")]
    for words in (["group", "create", "ci", *login], warm, ["cache", "verify"]):
        done = server.cli(*words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mask", [0o000, 0o022], ids=["umask 000", "umask 022"])
def test_everything_in_the_data_folder_is_for_its_owner_alone(
    mask: int, liar: Liar, gateway: GatewayFactory, umask: Callable[[int], None]
) -> None:
    umask(mask)
    server = gateway({"upstreams": {"docker.io": liar.settings()}}, start=False)
    server.start()
    url = server.proxied_url(f"library/one/blobs/{liar.offer_blob(b'one')}")
    assert raw.get(url).body == b"one"
    wait_until(lambda: raw.head(url).headers.get("x-cache") == "HIT")
    wrong = liar.offer_blob(b"two")
    liar.behave(wrong, lies.flipped(0))
    assert raw.get(server.proxied_url(f"library/one/blobs/{wrong}")).status == 502
    wait_until(lambda: any((server.data / "quarantine").glob("*")))
    wait_until(lambda: (server.data / "usage.db").exists())
    assert open_to_others(server.data) == {}
    assert server.stop() == 0
    assert open_to_others(server.data) == {}


def test_commands_leave_nothing_that_others_may_read(
    hub: Hub, published: Publish, gateway: GatewayFactory, umask: Callable[[int], None]
) -> None:
    umask(0)
    published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}}, start=False)
    run_commands(server, "library/tiny")
    assert {"usage.db", "keys", "cache", "quota.json"} <= {path.name for path in server.data.iterdir()}
    assert open_to_others(server.data) == {}


def test_a_folder_that_others_may_enter_is_left_as_it_is_and_reported(gateway: GatewayFactory) -> None:
    server = gateway(start=False)
    server.data.mkdir()
    server.data.chmod(0o755)
    server.start()
    assert "data_folder_exposed" in server.log_text()
    assert "0755" in server.log_text()
    assert set(open_to_others(server.data)) == {"."}
    checks = json.loads(server.cli("doctor", "--json").stdout)
    [check] = [check for check in checks if check["name"] == "data folder access"]
    assert check["ok"] is True
    assert check["remedy"] == f"run chmod -R go= {server.data}"
    server.data.chmod(0o700)
    server.restart()
    assert server.log_text().count("data_folder_exposed") == 1
