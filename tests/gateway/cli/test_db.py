"""`db` and the other commands with the database on each engine."""

import asyncio
import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.data_folder import server_lock
from gateway.db.address import PostgresqlAddress
from gateway.db.postgresql import make_engine
from gateway.db.revisions import needed_revision
from tests.gateway.cli.test_main import Terminal
from tests.parts.postgresql import PASSWORD, Databases

PURGES = ("cache_purges", "image_ttl_policies", "bulk_deletions")
VIRTUAL = ("virtual_registry_upstreams", "virtual_upstreams", "virtual_registries")
CLEANUPS = ("protection_rules", "repository_cleanups", "cleanup_policies")
REVIEWS = ("old_paths", "collection", "blob_removals", "manifest_reviews", "blob_reviews")
STORE = ("uploads", "tags", "manifest_references", "manifests", "blob_links", "blobs", "repositories")
BACK_TO_0004 = (
    *(f"DROP TABLE {table}" for table in ("webhook_deliveries", "webhook_events", "webhooks")),
    *(
        f"DROP TABLE {table}"
        for table in (
            "user_identities",
            "web_sessions",
            *PURGES,
            *VIRTUAL,
            "id_token_logins",
            "bots",
            "deleted_manifests",
            *CLEANUPS,
            "pinned_tags",
            "tag_events",
            *REVIEWS,
            *STORE,
        )
    ),
    "DROP TABLE compatibility",
    "ALTER TABLE groups DROP COLUMN quota",
    "ALTER TABLE groups DROP COLUMN stored_bytes",
    "ALTER TABLE projects DROP COLUMN quota",
    "ALTER TABLE projects DROP COLUMN stored_bytes",
    "ALTER TABLE groups DROP COLUMN as_of",
    "ALTER TABLE projects DROP COLUMN as_of",
    "ALTER TABLE projects DROP COLUMN pinned_at",
    "ALTER TABLE projects DROP COLUMN limits_jobs",
    "ALTER TABLE personal_tokens DROP COLUMN description",
    "ALTER TABLE personal_tokens DROP COLUMN family_id",
    "UPDATE alembic_version SET version_num = '0004'",
)
"""Statements that take back what came after revision 0004."""


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def postgresql(databases: Databases, terminal: Terminal) -> Iterator[PostgresqlAddress]:
    """An empty database that the settings name."""
    address = asyncio.run(databases.server.create("of_commands", "template0"))
    settings = f'[database]\nurl = "{address}"\npassword_file = "{address.password_file}"\n'
    terminal.config.write_text(terminal.config.read_text() + settings)
    yield address
    asyncio.run(databases.server.drop(address.name))


def execute(address: PostgresqlAddress, *statements: str) -> None:
    async def run() -> None:
        engine = make_engine(address)
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(run())


@pytest.fixture
def older(terminal: Terminal) -> Path:
    """The database of a data folder as an older version left it."""
    terminal.done("group", "create", "ci")
    terminal.done("user", "create", "ada")
    file = terminal.data / "gateway.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in BACK_TO_0004:
            connection.execute(statement)
    return file


def revision_in(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        [[number]] = connection.execute("SELECT version_num FROM alembic_version")
        return str(number)


@pytest.mark.parametrize(
    "words",
    [
        *[("group", "list"), ("group", "show", "ci"), ("group", "create", "new"), ("user", "create", "bob")],
        *[("project", "list"), ("user", "list"), ("member", "list", "ci"), ("token", "list"), ("job", "list")],
        *[("deploy-token", "list"), ("access", "explain", "pull", "ci", "--user", "ada"), ("keys", "list")],
        *[("repository", "list"), ("quota",), ("cache", "list"), ("cache", "status"), ("verify",)],
        ("token", "create", "--user", "ada", "--scope", "api", "--name", "ci"),
        ("member", "add", "ci", "ada", "guest"),
    ],
    ids=" ".join,
)
def test_no_command_upgrades_a_file_that_an_older_version_may_use(
    terminal: Terminal, older: Path, words: tuple[str, ...]
) -> None:
    said = terminal.refused(*words)
    assert said.startswith(f"{older} has revision 0004, and this version needs {needed_revision()}: back it up, then ")
    assert "`registry-gateway db upgrade` upgrades it, as the next start of a server does" in said
    assert revision_in(older) == "0004"


def test_a_diagnosis_upgrades_nothing(terminal: Terminal, older: Path) -> None:
    found = json.loads(terminal.run("doctor", "--json")[1])
    [databases] = [check for check in found if check["name"] == "databases"]
    assert not databases["ok"]
    assert "has revision 0004" in databases["detail"] and "db upgrade" in databases["remedy"]
    assert revision_in(older) == "0004"


def test_an_index_of_an_older_version_is_left_to_the_next_server(terminal: Terminal) -> None:
    terminal.done("group", "create", "ci")
    terminal.done("cache", "list")
    with closing(sqlite3.connect(terminal.data / "cache.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0006'")
    for words in (("cache", "list"), ("cache", "status"), ("cache", "explain", "alpine")):
        assert "cache.db has revision 0006, and this version needs" in terminal.refused(*words)
    assert revision_in(terminal.data / "cache.db") == "0006"


def test_an_upgrade_on_request_keeps_the_file_as_it_was(terminal: Terminal, older: Path) -> None:
    code, out, err = terminal.run("db", "check")
    assert (code, out) == (1, f"{older} has revision 0004\n")
    assert "back it up, then `registry-gateway db upgrade` upgrades it" in err
    done = terminal.json("db", "upgrade")
    assert (done["revision"], done["before"]) == (needed_revision(), "0004")
    copy = Path(done["copy"])
    assert copy.parent.parent == terminal.data and copy.parent.name.startswith("before-upgrade-")
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert revision_in(copy) == "0004"
    assert [group["path"] for group in terminal.json("group", "list")] == ["ci", "hub"]
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT name FROM users").fetchall() == [("ada",)]
    assert terminal.json("db", "upgrade") == {"revision": needed_revision(), "before": needed_revision(), "copy": None}
    assert len(list(terminal.data.glob("before-upgrade-*"))) == 1


def test_an_upgrade_says_what_it_did(terminal: Terminal, older: Path) -> None:
    said = terminal.done("db", "upgrade").splitlines()
    assert said[0] == f"{older} has revision {needed_revision()}, after 0004"
    assert said[1].endswith("/gateway.db is as it was before: delete it when nothing is missing")
    assert terminal.done("db", "upgrade") == f"{older} has revision {needed_revision()}\n"


def test_no_file_is_upgraded_under_a_server(terminal: Terminal, older: Path) -> None:
    with server_lock(terminal.data) as free:
        assert free
        for words in (("db", "upgrade"), ("serve",)):
            said = terminal.refused(*words)
            assert f"{older} has revision 0004, and a server uses its data folder" in said
            assert said.endswith("stop that before the upgrade")
    assert revision_in(older) == "0004"
    assert not list(terminal.data.glob("before-upgrade-*"))


def test_no_file_is_upgraded_of_which_no_copy_can_be_made(
    terminal: Terminal, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr("cache.sqlite.copy", fails)
    said = terminal.refused("db", "upgrade")
    assert "was not upgraded, since no copy of it can be made" in said and "db upgrade --no-copy`" in said
    assert revision_in(older) == "0004"
    assert not [path for path in terminal.data.iterdir() if "upgrade" in path.name]
    assert terminal.json("db", "upgrade", "--no-copy")["copy"] is None
    assert revision_in(older) == needed_revision()


def test_nothing_is_there_to_upgrade_without_a_data_folder(terminal: Terminal) -> None:
    for word in ("check", "upgrade"):
        assert terminal.refused("db", word).startswith("there is no data folder ")
    assert not terminal.data.exists()


@pytest.mark.parametrize(("oldest", "usable"), [("0001", True), ("9998", False)])
def test_a_newer_file_is_used_if_it_names_this_version_as_able(terminal: Terminal, oldest: str, usable: bool) -> None:
    terminal.done("group", "create", "ci")
    with closing(sqlite3.connect(terminal.data / "gateway.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute(f"UPDATE compatibility SET oldest_program = '{oldest}'")
    if usable:
        assert [group["path"] for group in terminal.json("group", "list")] == ["ci", "hub"]
    else:
        said = terminal.refused("group", "list")
        assert said.endswith("has revision 9999, which this version cannot use: use the version that upgraded it")


def test_commands_work_on_postgresql(terminal: Terminal, postgresql: PostgresqlAddress) -> None:
    assert "there is no data folder" in terminal.refused("group", "list")
    code, out, err = terminal.run("db", "check", "--json")
    assert (code, json.loads(out)) == (1, {"revision": None})
    assert "is empty: `registry-gateway serve` sets it up" in err
    terminal.done("group", "create", "ci")
    assert not (terminal.data / "gateway.db").exists()
    assert [group["path"] for group in terminal.json("group", "list")] == ["ci", "hub"]
    assert terminal.done("db", "check") == f"{postgresql} has revision {needed_revision()}\n"


def test_an_older_database_of_postgresql_waits_for_the_command(
    terminal: Terminal, postgresql: PostgresqlAddress
) -> None:
    assert terminal.json("db", "upgrade")["revision"] == needed_revision()
    execute(postgresql, *BACK_TO_0004)
    for words in (("serve",), ("group", "create", "ci")):
        said = terminal.refused(*words)
        assert "has revision 0004, and this version needs" in said
        assert "back it up, then `registry-gateway db upgrade` upgrades it" in said
    assert terminal.json("db", "upgrade") == {"revision": needed_revision(), "before": "0004", "copy": None}
    terminal.done("group", "create", "ci")


def test_a_database_that_cannot_be_used_is_named_without_its_password(
    terminal: Terminal, postgresql: PostgresqlAddress
) -> None:
    terminal.config.write_text(terminal.config.read_text().replace("of_commands", "of_nobody"))
    said = terminal.refused("group", "create", "ci")
    assert said.endswith('(database "of_nobody" does not exist): create it, owned by that user')
    assert PASSWORD not in said + terminal.done("config", "show")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('url = "postgresql://u:s3cret@h/n"', "without the password"),
        ('url = "postgres://u@h/n"', "must be empty, or a URL like postgresql://USER@HOST/NAME"),
        ('url = "postgresql://h/n"', "must be empty, or a URL"),
        ('url = "postgresql://u@h:99999/n"', "must be empty, or a URL"),
        ('url = "postgresql://u@h/"', "must be empty, or a URL"),
        ('password_file = "p"', "password_file needs the url of a database: set both or neither"),
    ],
)
def test_a_wrong_address_is_refused(terminal: Terminal, text: str, problem: str) -> None:
    terminal.config.write_text(f"[database]\n{text}\n")
    said = terminal.refused("config", "check")
    assert problem in said
    assert "s3cret" not in said
