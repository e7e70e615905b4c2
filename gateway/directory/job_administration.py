"""JobAdministration: jobs that are started, listed and finished, each with the secrets that end with it.

Their rules are in gateway.namespaces.credential_rules. Secrets are made here, returned once, and stored as hashes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from gateway.db import deploy_tokens, jobs, members, paths, projects, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.windows import ListPart, ListWindow
from gateway.namespaces.ci_variables import job_variables
from gateway.namespaces.credential_rules import direct_group, new_job
from gateway.namespaces.credentials import CredentialKind, Job, hash_secret, new_secret
from gateway.namespaces.node import prefixes_of
from gateway.namespaces.project import Project, unknown_project
from gateway.namespaces.user import User


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job that was started, with its project and user. `variables`: those of CI, with its secrets, which are nowhere
    else."""

    job: Job
    project: Project
    user: User
    variables: Mapping[str, str] = field(repr=False)


class JobAdministration:
    """Jobs as the database has them. Raises TreeError where one is refused, DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def start(
        self, project_id: int, user_id: int, ref: str | None, expires_at: datetime | None, host: str
    ) -> StartedJob:
        """Start a job of a project on behalf of a user. `expires_at`: None for an hour from now; `host`: HOST:PORT of
        this server, as its variables spell it.

        Raises ProjectUnknown, UserUnknown, JobRefused, CredentialInvalid, ExpiryInvalid.
        """
        now = self._clock()
        secret, deploy_secret = new_secret(CredentialKind.JOB_TOKEN), new_secret(CredentialKind.JOB_DEPLOY_TOKEN)

        async def start(connection: Connection) -> StartedJob:
            project = await projects.find_by_id(connection, project_id)
            if project is None:
                raise unknown_project(str(project_id))
            user = await users.get_by_id(connection, user_id)
            way = await paths.find_all(connection, prefixes_of(project.path))
            on_the_way = {entry.key for entry in way}
            roles = [member for member in await members.of_user(connection, user.id) if member.node in on_the_way]
            job = new_job(project, way, user, roles, ref, expires_at, now)
            group = direct_group(way)
            nodes = [project.key, *([group.key] if group else [])]
            token = await deploy_tokens.find_for_jobs(connection, nodes, now)
            job = replace(job, deploy_token_id=token.id if token else None)
            hashed = hash_secret(deploy_secret) if token else None
            job = await jobs.create(connection, job, hash_secret(secret), hashed)
            deploy = (token, deploy_secret) if token else None
            return StartedJob(job, project, user, job_variables(host, job, secret, project, way, deploy))

        return await self._database.transact(start)

    async def find(self, id: int) -> Job | None:
        """Find a job by its id, also one that has ended."""
        return await self._database.query(partial(jobs.find, job_id=id))

    async def list_part(self, project_id: int, window: ListWindow, *, running: bool) -> ListPart[Job]:
        """A part of the list of the jobs of a project; `running`: only of those that have not ended."""
        async with self._database.read() as connection:
            return await jobs.list_part(connection, project_id, running, window, self._clock())

    async def people_of(self, listed: Iterable[Job]) -> dict[int, User]:
        """The users of some jobs, by their ids."""
        async with self._database.read() as connection:
            return await users.find_all(connection, {job.user_id for job in listed})

    async def finish(self, id: int) -> Job:
        """End a job now, with its secrets, and return it. Raises JobUnknown."""
        return await self._database.transact(partial(jobs.finish, job_id=id, now=self._clock()))
