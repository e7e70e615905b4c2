"""Backup of a running server, and a server on the restored data folder."""

import base64
import sqlite3
import threading
from contextlib import closing

from gateway.keys.sealing import Sealer
from tests.conftest import GatewayFactory
from tests.parts import raw
from tests.parts.canaries import CANARY, remember
from tests.parts.gateway import Gateway


def test_a_backup_of_a_running_server_is_restored_elsewhere(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2})
    (server.directory / "password").write_text(f"{CANARY}\n")
    login = ["--upstream-username", "ada", "--upstream-password-file", str(server.directory / "password")]
    server.json("group", "create", "team", *login)
    server.json("user", "create", "ann")
    token = server.json("token", "create", "--user", "ann", "--name", "laptop", "--scope", "api")
    remember(token["token"])
    statuses: list[int] = []
    done = threading.Event()

    def request() -> None:
        while not done.is_set():
            statuses.append(raw.get(f"{server.url}/-/health").status)

    asking = threading.Thread(target=request)
    asking.start()
    file = server.directory / "backup.tar"
    try:
        assert server.json("backup", str(file))["files"] >= 2
    finally:
        done.set()
        asking.join()
    assert set(statuses) == {200}
    refused = server.cli("restore", str(file))
    assert (refused.returncode, "a server uses the data folder" in refused.stderr) == (1, True)

    other = gateway({"workers": 2}, name="other", start=False)
    assert other.json("restore", str(file))["kept"] is None
    other.start()
    assert other.json("group", "show", "team") == server.json("group", "show", "team")
    assert other.json("user", "list") == server.json("user", "list")
    assert other.json("token", "list", "--user", "ann") == server.json("token", "list", "--user", "ann")
    assert [login_status(running, token["token"]) for running in (server, other)] == [200, 200]
    assert login_status(other, "another") == 401
    with closing(sqlite3.connect(other.data / "gateway.db")) as connection:
        query = "SELECT id, upstream_password_sealed FROM groups WHERE path = 'team'"
        [(number, sealed)] = connection.execute(query).fetchall()
    assert Sealer(other.data / "keys").open(sealed, f"upstream login of group {number}") == CANARY


def login_status(server: Gateway, secret: str) -> int:
    """Status of the response to a login with a token."""
    basic = base64.b64encode(f"ann:{secret}".encode()).decode()
    address = f"{server.url}/jwt/auth?service=registry-gateway"
    return raw.get(address, [("Authorization", f"Basic {basic}")]).status
