"""`db` and the other commands with the database on each engine."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.db.address import PostgresqlAddress
from gateway.db.postgresql import make_engine
from gateway.db.revisions import needed_revision
from tests.gateway.cli.test_main import Terminal
from tests.parts.postgresql import PASSWORD, Databases

BACK_TO_0004 = (
    *(
        f"DROP TABLE {table}"
        for table in ("uploads", "tags", "manifest_references", "manifests", "blob_links", "blobs", "repositories")
    ),
    "DROP TABLE compatibility",
    "ALTER TABLE groups DROP COLUMN quota",
    "ALTER TABLE projects DROP COLUMN quota",
    "ALTER TABLE projects DROP COLUMN stored_bytes",
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


def test_a_file_is_upgraded_by_the_first_command(terminal: Terminal) -> None:
    for word in ("check", "upgrade"):
        assert terminal.refused("db", word).startswith("there is no data folder ")
    assert not terminal.data.exists()
    terminal.done("group", "create", "ci")
    assert terminal.json("db", "check") == {"revision": needed_revision()}
    file = terminal.data / "gateway.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in BACK_TO_0004:
            connection.execute(statement)
    code, out, err = terminal.run("db", "check")
    assert (code, out) == (1, f"{file} has revision 0004\n")
    assert "back it up, then `registry-gateway db upgrade` upgrades it" in err
    assert terminal.json("db", "upgrade") == {"revision": needed_revision()}
    assert [group["path"] for group in terminal.json("group", "list")] == ["ci", "hub"]


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
    assert terminal.json("db", "upgrade") == {"revision": needed_revision()}
    execute(postgresql, *BACK_TO_0004)
    for words in (("serve",), ("group", "create", "ci")):
        said = terminal.refused(*words)
        assert "has revision 0004, and this version needs" in said
        assert said.endswith("back it up, then `registry-gateway db upgrade` upgrades it")
    terminal.done("db", "upgrade")
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
