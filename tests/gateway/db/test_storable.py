"""What no column can hold: lookups find nothing, and nothing of it is stored; one suite for every database."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Integer, String, Table, insert, update

from gateway.db import (
    credentials,
    deploy_tokens,
    groups,
    jobs,
    members,
    paths,
    personal_tokens,
    projects,
    schema,
    users,
)
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.storable import ValueUnstorable
from gateway.directory.directory import Directory
from gateway.namespaces.credentials import CredentialKind, CredentialRef
from gateway.namespaces.node import NodeKey, NodeKind
from tests.gateway.db.identity_rows import add_project, add_user

TEXTS = {"NUL": "ann\0", "NUL alone": "\0", "lone surrogate": "ann\udc80"}
NUMBERS = {"above 31 bits": 2**31, "above 63 bits": 2**63, "below": -(2**31) - 1}

BY_TEXT: dict[str, Callable[[Connection, str], Awaitable[object]]] = {
    "user": users.find,
    "e-mail": users.find_by_email,
    "users after": lambda connection, text: users.list_all(connection, after=text),
    "group": groups.find,
    "groups below": groups.list_all,
    "project": projects.find,
    "projects below": projects.list_all,
    "projects after": lambda connection, text: projects.list_all(connection, after=text),
    "path": paths.find,
    "paths": lambda connection, text: paths.find_all(connection, [text, f"{text}/b"]),
    "inside": lambda connection, text: paths.find_inside(connection, text, 5),
    "secret": credentials.find_by_hash,
}
BY_NUMBER: dict[str, Callable[[Connection, int], Awaitable[object]]] = {
    "user": users.find_by_id,
    "users": lambda connection, number: users.names_of(connection, [number]),
    "project": projects.find_by_id,
    "personal token": personal_tokens.find,
    "deploy token": deploy_tokens.find,
    "job": jobs.find,
    "running jobs": lambda connection, number: jobs.list_all(connection, number),
    "memberships": members.of_user,
    "members": lambda connection, number: members.list_of(connection, [NodeKey(NodeKind.GROUP, number)]),
    "allowances": projects.allowed_jobs,
    "paths": lambda connection, number: paths.find_of(connection, [NodeKey(NodeKind.PROJECT, number)]),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("look_up", BY_TEXT.values(), ids=BY_TEXT)
async def test_a_text_that_no_column_can_hold_is_unknown(
    database: Database, look_up: Callable[[Connection, str], Awaitable[object]], text: str
) -> None:
    async with database.write() as connection:
        await add_user(connection)
    async with database.read() as connection:
        assert not await look_up(connection, text)


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("look_up", BY_NUMBER.values(), ids=BY_NUMBER)
async def test_a_number_that_no_row_can_have_is_unknown(
    database: Database, look_up: Callable[[Connection, int], Awaitable[object]], number: int
) -> None:
    async with database.read() as connection:
        assert not await look_up(connection, number)


async def test_a_directory_knows_nobody_by_what_no_column_can_hold(database: Database) -> None:
    directory = Directory(database, ["docker.io"])
    for text in TEXTS.values():
        assert await directory.find_user(text) is None
        assert await directory.find_user_by_email(f"{text}@example.com") is None
        assert await directory.credential_of_hash(text) is None
    for number in NUMBERS.values():
        assert await directory.user(number) is None
        for kind in CredentialKind:
            assert await directory.credential(CredentialRef(kind, number)) is None


@pytest.mark.parametrize("text", [*TEXTS.values(), "a" * 256], ids=[*TEXTS, "too long"])
async def test_a_text_that_no_column_can_hold_is_not_stored(database: Database, text: str) -> None:
    async with database.write() as connection:
        project = await add_project(connection)
        values = {"name": text, "admin": False, "external": False, "blocked": False, "created_at": project.created_at}
        with pytest.raises(ValueUnstorable):
            await connection.execute(insert(schema.users).values(values))
        with pytest.raises(ValueUnstorable):
            await connection.execute(update(schema.projects).values(path=text))
        assert await projects.find(connection, project.path) == project


async def test_a_number_that_no_row_can_have_is_not_stored(database: Database) -> None:
    async with database.write() as connection:
        await add_project(connection)
        with pytest.raises(ValueUnstorable):
            await connection.execute(update(schema.projects).values(created_by=2**31))


@pytest.mark.parametrize("table", schema.metadata.sorted_tables, ids=str)
def test_each_column_that_people_fill_checks_what_it_holds(table: Table) -> None:
    """Columns of plain types hold words and numbers of the program alone."""
    words = {"kind", "visibility", "registry", "concern", "oldest_program", "gate", "role", "event"}
    words |= {"cadence", "older_than", "leased_by"}
    counts = {"attempts", "window_objects", "window_deleted", "deleted_manifests", "deleted_blobs", "freed_bytes"}
    counts |= {"keep_n", "deleted", "kept", "push_level", "delete_level", "images", "purged", "shared", "ttl"}
    counts |= {"cache_validity_hours", "position"}
    numbers = {"seq", "size", "received", "quota", "stored_bytes", "reserved"} | counts
    plain = [column.name for column in table.c if isinstance(column.type, String | Integer)]
    assert set(plain) <= words | numbers
