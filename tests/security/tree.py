"""Tree for the tests of authorisation: users, groups, projects, members and credentials, stored by the queries of
gateway.db before a server starts, or while it serves."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.names import RepositoryName
from gateway.auth.passwords import hash_password
from gateway.db import deploy_tokens, groups, jobs, members, moves, personal_tokens, projects, repositories, users
from gateway.db.engine import DATABASE_FILE, Database
from gateway.db.setup import set_up
from gateway.namespaces.credentials import (
    JOB_USERNAME,
    CredentialKind,
    DeployToken,
    Job,
    PersonalToken,
    Scope,
    hash_secret,
    new_secret,
)
from gateway.namespaces.group import Group
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, Visibility
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User
from tests.parts.canaries import CANARY, remember

T = TypeVar("T")
PASSWORD = CANARY
_HOUR = timedelta(hours=1)
EVERY_JOB = "works/named", "works/crew"
"""A project and a group whose jobs every project of the nine allows."""


@dataclass(frozen=True)
class Login:
    """User name and secret as a client presents them; `id` of the stored credential, or of the user."""

    id: int
    username: str
    secret: str


@dataclass(frozen=True)
class NineProjects:
    """Projects of every visibility and access level below one node, by row of the table."""

    place: str
    projects: dict[str, Project]

    def name_of(self, row: str) -> str:
        """Name of a repository in the project of a row, or where there is none."""
        return f"{self.place}/{row.replace('/', '-')}/app"


def login(id: int, username: str, secret: str) -> Login:
    """A login whose secret, also in the form of Basic, must show nowhere."""
    remember(secret)
    remember(base64.b64encode(f"{username}:{secret}".encode()).decode())
    return Login(id, username, secret)


class Planter:
    """Stores nodes and credentials in one transaction; `now` is when all of them were made."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.now = datetime.now(UTC)
        self._hash = hash_password(PASSWORD)

    async def user(self, name: str, *, admin: bool = False, external: bool = False, blocked: bool = False) -> User:
        """A user whose password is PASSWORD."""
        login(0, name, PASSWORD)
        user = await users.create(
            self.connection, name, self.now, admin=admin, external=external, password_hash=self._hash
        )
        if blocked:
            user = replace(user, blocked=True)
            await users.update(self.connection, user)
        return user

    async def group(self, path: str, visibility: str = "private", *, open: bool = False) -> Group:
        group = replace(await groups.create(self.connection, path, self.now), visibility=Visibility(visibility))
        group = replace(group, anonymous_pull=open)
        await groups.update(self.connection, group)
        return group

    async def project(self, path: str, visibility: str = "private", access: str = "enabled") -> Project:
        project = await projects.create(self.connection, path, self.now, visibility=Visibility(visibility))
        project = replace(project, registry=RegistryAccess(access))
        await projects.update(self.connection, project)
        return project

    async def nine_projects(self, place: str, allowed: Iterable[NodeKey] = ()) -> NineProjects:
        found = {}
        for visibility in Visibility:
            for access in RegistryAccess:
                project = await self.project(f"{place}/{visibility}-{access}", visibility, access)
                await projects.set_allowed_jobs(self.connection, project, allowed)
                found[f"{visibility}/{access}"] = project
        nine = NineProjects(place, found)
        for row, project in found.items():
            await self.repository(nine.name_of(row), project)
        return nine

    async def moved(self, nine: NineProjects, place: str) -> NineProjects:
        """The nine projects after their group has moved to another path."""
        await moves.move_group(self.connection, nine.place, place, self.now, timedelta(days=1))
        at = {
            row: replace(project, path=place + project.path[len(nine.place) :])
            for row, project in nine.projects.items()
        }
        return NineProjects(place, at)

    async def repository(self, name: str, project: Project) -> None:
        """A repository without content."""
        await repositories.find_or_create(self.connection, project.id, RepositoryName(name), self.now)

    async def member(self, node: NodeKey, user: User, role: Role, expires_at: datetime | None = None) -> Member:
        member = Member(node, user.id, role, expires_at, self.now - _HOUR)
        await members.add(self.connection, member)
        return member

    async def personal(
        self, user: User, scopes: Iterable[str], *, revoked: bool = False, expired: bool = False
    ) -> Login:
        secret = new_secret(CredentialKind.PERSONAL_TOKEN)
        token = PersonalToken(0, user.id, "tests", frozenset(map(Scope, scopes)), self.now - _HOUR)
        if expired:
            token = replace(token, expires_at=self.now)
        token = await personal_tokens.create(self.connection, token, hash_secret(secret))
        if revoked:
            await personal_tokens.revoke(self.connection, token.id, self.now)
        return login(token.id, "whoever", secret)

    async def deploy(
        self, node: NodeKey, scopes: Iterable[str], *, revoked: bool = False, expired: bool = False
    ) -> Login:
        secret, username = new_secret(CredentialKind.DEPLOY_TOKEN), f"deployer+{node.kind}.{node.id}"
        token = DeployToken(0, node, "tests", username, frozenset(map(Scope, scopes)), self.now - _HOUR)
        if expired:
            token = replace(token, expires_at=self.now)
        token = await deploy_tokens.create(self.connection, token, hash_secret(secret))
        if revoked:
            await deploy_tokens.revoke(self.connection, token.id, self.now)
        return login(token.id, username, secret)

    async def job(
        self, project: Project, user: User, *, finished: bool = False, expired: bool = False, stands_for: int = 0
    ) -> tuple[Login, Login | None]:
        """A job's token, and its secret for the deploy token of the id `stands_for`."""
        secret, deploy_secret = new_secret(CredentialKind.JOB_TOKEN), None
        expires_at = self.now if expired else self.now + _HOUR
        job = Job(0, project.id, user.id, None, self.now - _HOUR, expires_at, deploy_token_id=stands_for or None)
        if stands_for:
            deploy_secret = new_secret(CredentialKind.JOB_DEPLOY_TOKEN)
        hashed = hash_secret(deploy_secret) if deploy_secret else None
        job = await jobs.create(self.connection, job, hash_secret(secret), hashed)
        if finished:
            await jobs.finish(self.connection, job.id, self.now)
        second = login(job.id, "gitlab-deploy-token", deploy_secret) if deploy_secret else None
        return login(job.id, JOB_USERNAME, secret), second


@asynccontextmanager
async def planting(data: Path) -> AsyncIterator[Planter]:
    """Opens one transaction on the database of a data folder, as a command beside the server does."""
    await set_up(data / DATABASE_FILE)
    async with Database.open(data / DATABASE_FILE) as database, database.write() as connection:
        yield Planter(connection)


def run(data: Path, change: Callable[[Planter], Awaitable[T]]) -> T:
    """Makes one change of the database and returns when it is committed."""

    data.mkdir(parents=True, exist_ok=True)

    async def changed() -> T:
        async with planting(data) as planter:
            return await change(planter)

    return asyncio.run(changed())
