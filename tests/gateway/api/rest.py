"""The REST API over real stores: the people, projects and pushes of the registry's surface, with tokens of theirs."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cache.oci.names import RepositoryName
from gateway.audit.event import AuditEvent, EventKind
from gateway.audit.file import AuditFile, AuditLimits, AuditQuery, read_events
from gateway.audit.log import AuditLog
from gateway.auth.authenticator import Authenticator
from gateway.auth.login_delays import LoginDelays
from gateway.auth.password_logins import PasswordLogins
from gateway.auth.passwords import Passwords
from gateway.db import jobs, personal_tokens
from gateway.db.engine import Database
from gateway.namespaces.credentials import CredentialKind, Job, PersonalToken, Scope, hash_secret, new_secret
from gateway.services import Services
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.gateway.v2.pushing import ROOTS, URL, PushSurface, open_surface

AUDIT = "audit-of-tests.db"
REPOSITORIES = "/registry/repositories"


@dataclass(frozen=True)
class Rest:
    """The app with its real authenticator. `tokens`: the secret of a token with the scope `api` of each person."""

    surface: PushSurface
    services: Services
    tokens: dict[str, str]

    async def call(
        self,
        method: str,
        path: str,
        *,
        who: str | None = "maintainer",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        **query: Any,
    ) -> Exchange:
        """The response to a request below /api/v4. `who`: None for nobody, or for the token of `headers`."""
        sent = [("PRIVATE-TOKEN", self.tokens[who])] if who is not None else []
        if body is not None:
            sent.append(("Content-Length", str(len(body))))
        target = f"/api/v4{path}" + (f"?{urlencode(query)}" if query else "")
        client = Client(scope_of(method, target, [*sent, *headers]), [body or b""])
        app = create_app(self.services, ROOTS, RegistryOptions(open_proxy=True))
        return await client.request(app)

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """The document of a GET, whose status is this."""
        answer = await self.call("GET", path, **options)
        assert answer.status == status, answer.body
        return json.loads(answer.body)

    async def send_json(
        self, method: str, path: str, document: object, headers: Sequence[tuple[str, str]] = (), **options: Any
    ) -> Exchange:
        """The response to a request with a JSON body."""
        body, typed = json.dumps(document).encode(), [("Content-Type", "application/json"), *headers]
        return await self.call(method, path, body=body, headers=typed, **options)

    async def id_of(self, name: str) -> int:
        """The id of the repository of a name."""
        stored = await self.services.native.find(RepositoryName.parse(name))
        assert stored is not None
        return stored.id

    def noted(self, kind: EventKind) -> list[AuditEvent]:
        """The events of a kind in the audit log."""
        self.services.audit.flush()
        path = self.services.folder.data / AUDIT
        return [written.event for written in read_events(path, AuditQuery(event=kind), None, 1000)]

    async def token(self, who: str, *scopes: str, **fields: Any) -> str:
        """The secret of a new personal token."""
        async with self.database() as database, database.write() as connection:
            return await _token(connection, self.surface, who, scopes, **fields)

    async def job(self, who: str, project: str) -> str:
        """The secret of a job of a project that a person has started."""
        secret, now = new_secret(CredentialKind.JOB_TOKEN), self.services.clock()
        place = await self.services.directory.find_project_place(project)
        assert place is not None
        job = Job(0, place.project.id, self.surface.people[who].id, "main", now, now + timedelta(hours=1))
        async with self.database() as database, database.write() as connection:
            await jobs.create(connection, job, hash_secret(secret))
        return secret

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database, as another process opens it."""
        async with Database.open(self.services.folder.data / "gateway.db") as database:
            yield database


async def _token(connection: Any, surface: PushSurface, who: str, scopes: Sequence[str], **fields: Any) -> str:
    secret, made = new_secret(CredentialKind.PERSONAL_TOKEN), surface.services.clock()
    token = PersonalToken(0, surface.people[who].id, "tests", frozenset(map(Scope, scopes)), made, **fields)
    await personal_tokens.create(connection, token, hash_secret(secret))
    return secret


@asynccontextmanager
async def open_rest(data: Path, **settings: Any) -> AsyncIterator[Rest]:
    """Open the REST API over a new data folder."""
    async with open_surface(data, **settings) as surface:
        async with Database.open(data / "gateway.db") as database, database.write() as connection:
            tokens = {who: await _token(connection, surface, who, ["api"]) for who in surface.people}
        services = surface.services
        logins = PasswordLogins(Passwords(1), LoginDelays(), services.clock)
        authenticator = Authenticator(services.directory, services.tokens, logins, services.clock)
        try:
            # With a log of its own, which nobody else writes at intervals.
            audit = AuditLog(AuditFile(data / AUDIT, AuditLimits(timedelta(days=1), 1 << 30)))
            yield Rest(surface, replace(services, authenticator=authenticator, audit=audit), tokens)
        finally:
            logins.close()


__all__ = ["URL", "Rest", "open_rest"]
