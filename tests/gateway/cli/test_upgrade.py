"""Upgrade of a data folder that a version before users and projects has written: everything in it stays."""

import asyncio
import json
import runpy
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from cache import sqlite
from cache.index.sql import MIGRATIONS as CACHE_MIGRATIONS
from gateway.cli.folder import open_existing
from gateway.db import groups, paths
from gateway.keys.sealing import Sealer
from gateway.keys.upstream_login import open_login
from gateway.namespaces.gate_document import gate_to_document
from gateway.namespaces.group import Login
from gateway.namespaces.node import NodeKind
from gateway.processes import supervisor
from gateway.processes.errors import CannotStart
from gateway.settings.tables import Settings
from tests.gateway.cli.starts import Starts
from tests.gateway.cli.terminal import Terminal
from tests.parts.canaries import CANARY

ROOT = Path(__file__).parents[3]
LAST_REVISION = "0003"
"""The last revision without users and projects."""

OLD_PATHS = ["hub", "root", "search", "team", "team/a__b", "team/edit"]
"""Paths that were free to choose; `search` and `edit` have been reserved since, and doubled signs refused."""

GATE = {
    "allow": ["acme/*"],
    "deny": ["acme/secret"],
    "cooldown_seconds": 259200,
    "cooldown_action": "refuse",
    "trusts_created": False,
    "pins": [],
}


def write_old_database(file: Path, sealed: dict[str, str]) -> None:
    """Write gateway.db as that version left it."""
    sqlite.create(file)
    engine = create_engine(sqlite.url("sqlite", file), poolclass=NullPool)
    sqlite.listen(engine)
    versions = sorted((ROOT / "gateway/db/migrations/versions").glob("000*.py"))
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for version in versions[: int(LAST_REVISION)]:
            runpy.run_path(str(version))["upgrade"]()
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{LAST_REVISION}')")
    with closing(sqlite3.connect(file)) as connection, connection:
        moment = "2026-01-02 03:04:05.000000"
        connection.execute("INSERT INTO installation VALUES (1, ?)", [moment])
        for number, path in enumerate(OLD_PATHS, 1):
            password = sealed.get(path)
            row = [number, path, "private", 1, 0, "docker.io", "ada" if password else None, password, moment]
            gate = json.dumps(GATE) if path == "team" else None
            connection.execute(f"INSERT INTO groups VALUES ({', '.join('?' * 9)}, 0, ?)", [*row, gate])
        connection.execute("UPDATE groups SET visibility = 'public', anonymous_pull = 1 WHERE path = 'hub'")
        connection.execute("INSERT INTO changes (concern, key) VALUES ('group', 'team')")


@pytest.fixture
def old(terminal: Terminal) -> Path:
    """Data folder of that version, with the sealed login of a group, keys, and an index of the cache."""
    (terminal.data / "keys").mkdir(parents=True)
    password = Sealer(terminal.data / "keys").seal(CANARY, "upstream login of group 4")
    write_old_database(terminal.data / "gateway.db", {"team": password})
    sqlite.migrate(terminal.data / "cache.db", CACHE_MIGRATIONS)
    (terminal.data / "cache" / "sha256" / "ab").mkdir(parents=True)
    (terminal.data / "cache" / "sha256" / "ab" / ("ab" * 32)).write_bytes(b"cached")
    return terminal.data


def other_files(data: Path) -> dict[str, bytes]:
    """What a start has no reason to change."""
    kept = [data / "keys" / "sealing.keys", data / "cache.db", *(data / "cache").rglob("*")]
    return {str(path): path.read_bytes() for path in kept if path.is_file()}


def test_an_upgrade_keeps_groups_logins_keys_and_cache(terminal: Terminal, old: Path, starts: Starts) -> None:
    before = other_files(old)
    for _ in range(2):
        terminal.done("serve")
    assert other_files(old) == before
    [warning] = starts.warnings_of("database_upgraded")
    assert f"its revision was {LAST_REVISION} and is " in warning.reason
    [copy] = old.glob("before-upgrade-*/gateway.db")
    assert str(copy) in warning.remedy and sqlite.read_revision(copy) == LAST_REVISION

    async def check() -> None:
        async with open_existing(Settings(data=old)) as database, database.read() as connection:
            found = await groups.list_all(connection)
            assert [group.path for group in found] == sorted(OLD_PATHS, key=lambda path: path.split("/"))
            places = await paths.find_all(connection, OLD_PATHS)
            assert {place.path: place.key.id for place in places} == {path: n for n, path in enumerate(OLD_PATHS, 1)}
            assert {place.key.kind for place in places} == {NodeKind.GROUP}
            team = await groups.get(connection, "team")
            assert open_login(team, Sealer(old / "keys")) == Login("ada", CANARY)
            assert team.gate is not None and gate_to_document(team.gate) == GATE
            assert (await groups.get(connection, "hub")).anonymous_pull

    asyncio.run(check())
    terminal.done("group", "update", "search", "--visibility", "public")
    terminal.done("group", "create", "team/a__b/new")
    terminal.done("project", "create", "team/edit/app")


def test_a_group_of_the_administrators_name_is_warned_of_and_stays(
    terminal: Terminal, old: Path, starts: Starts
) -> None:
    assert "administrator" not in terminal.done("serve")
    [warning] = starts.warnings_of("no_administrator")
    assert warning.reason == "there is no administrator, and 'root' is the path of a group"
    assert "`registry-gateway user create NAME --admin" in warning.remedy
    assert terminal.json("user", "list") == []
    terminal.done("group", "delete", "root")
    assert "administrator root, password in " in terminal.done("serve")
    assert [user["name"] for user in terminal.json("user", "list")] == ["root"]


def test_a_start_that_fails_after_the_upgrade_says_so(
    terminal: Terminal, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_given: object) -> None:
        raise CannotStart("the port is taken", settings=("host", "port"))

    monkeypatch.setattr(supervisor, "serve", fails)
    code, out, err = terminal.run("serve")
    assert (code, out) == (1, "")
    [upgraded, refused] = err.splitlines()
    assert upgraded.startswith(f"registry-gateway: database_upgraded: its revision was {LAST_REVISION} and is ")
    assert "before-upgrade-" in upgraded
    assert "the port is taken" in refused
