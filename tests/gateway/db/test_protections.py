"""Protection rules as they are stored: one suite for every database."""

import pytest

from gateway.db import projects, protections
from gateway.db.changes import Concern
from gateway.db.engine import Database
from gateway.directory.directory import Directory
from gateway.directory.places import ProjectPlace
from gateway.namespaces.errors import ProtectionRefused, ProtectionTaken, ProtectionUnknown, TagPatternInvalid
from gateway.namespaces.project import Project
from gateway.namespaces.protection import TAG_RULES, ProtectionKind, ProtectionLevel
from tests.gateway.db.announced import Announced
from tests.gateway.db.identity_rows import NOW, add_group, add_project

REPOSITORY, TAG, IMMUTABLE = ProtectionKind.REPOSITORY, ProtectionKind.TAG, ProtectionKind.IMMUTABLE
MAINTAINER, OWNER, ADMIN = ProtectionLevel
CHANGED = {(Concern.PROJECT, "team/app")}


@pytest.fixture
async def project(database: Database) -> Project:
    async with database.write() as connection:
        await add_group(connection)
        return await add_project(connection)


async def test_a_rule_is_made_changed_and_deleted_and_each_change_is_announced(
    database: Database, project: Project
) -> None:
    announced = Announced(database)
    async with database.write() as connection:
        made = await protections.create(connection, project, TAG, "v.*", NOW, push=MAINTAINER, delete=OWNER)
    assert announced.take() == CHANGED
    async with database.write() as connection:
        changed = await protections.update(connection, project, made.id, "v1.*", ADMIN, OWNER)
    assert announced.take() == CHANGED
    assert (changed.id, changed.kind, changed.pattern, changed.push) == (made.id, TAG, "v1.*", ADMIN)
    async with database.read() as connection:
        assert await protections.list_of(connection, project.id) == [changed]
        assert (await protections.of_project(connection, project.id)).of_tags == (changed,)
    async with database.write() as connection:
        assert await protections.delete(connection, project, made.id) == changed
    assert announced.take() == CHANGED
    async with database.write() as connection:
        for change in (protections.delete(connection, project, made.id), protections.get(connection, project, 2**40)):
            with pytest.raises(ProtectionUnknown, match="project 'team/app' has no protection rule"):
                await change


async def test_a_rule_that_cannot_be_is_not_stored(database: Database, project: Project) -> None:
    async with database.write() as connection:
        await protections.create(connection, project, TAG, "v.*", NOW, push=OWNER, delete=OWNER)
        await protections.create(connection, project, IMMUTABLE, "v.*", NOW)
        with pytest.raises(ProtectionTaken, match="has a tag rule with this pattern already"):
            await protections.create(connection, project, TAG, "v.*", NOW, push=ADMIN, delete=ADMIN)
        with pytest.raises(TagPatternInvalid):
            await protections.create(connection, project, IMMUTABLE, "v(", NOW)
        with pytest.raises(ProtectionRefused, match="names who may push them and who may delete"):
            await protections.create(connection, project, TAG, "x", NOW, push=OWNER)
        for number in range(TAG_RULES - 2):
            last = await protections.create(connection, project, IMMUTABLE, f"r{number}", NOW)
        with pytest.raises(ProtectionRefused, match="at most 5 rules for tags"):
            await protections.create(connection, project, IMMUTABLE, "more", NOW)
        assert (await protections.update(connection, project, last.id, "more", None, None)).pattern == "more"
        with pytest.raises(ProtectionTaken):
            await protections.update(connection, project, last.id, "v.*", None, None)
        assert len(await protections.list_of(connection, project.id)) == TAG_RULES
        await projects.delete(connection, "team/app", NOW)
        assert await protections.list_of(connection, project.id) == []


async def test_a_directory_knows_the_rules_of_a_project_from_the_next_request_on(
    database: Database, project: Project
) -> None:
    directory = Directory(database, [])

    async def known() -> list[int]:
        place = await directory.find_project_place("team/app")
        assert isinstance(place, ProjectPlace)
        return [rule.id for rule in (*place.protection.of_repositories, *place.protection.of_tags)]

    assert await known() == []
    async with database.write() as connection:
        first = await protections.create(connection, project, REPOSITORY, "/web", NOW, push=OWNER)
        second = await protections.create(connection, project, IMMUTABLE, "v.*", NOW)
    assert await known() == [first.id, second.id]
    async with database.write() as connection:
        await protections.delete(connection, project, first.id)
    assert await known() == [second.id]
