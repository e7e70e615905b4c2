"""Sessions of web pages: who is signed in, by a secret that the browser keeps.

A session ends where nobody has used it for IDLE, at the latest after LONGEST, and with the password that was presented.
Its secret is a new one for each login, and where the user becomes an administrator or is none any more, so that nobody
who knew an earlier one has the new rights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from secrets import token_urlsafe

from gateway.db import web_sessions
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.web_sessions import StoredSession
from gateway.namespaces.credentials import hash_secret
from gateway.namespaces.user import User
from gateway.namespaces.user_identity import UserIdentity

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)

MOST = 100
"""Sessions of one user; one more ends that which was used longest ago. Whoever knows a password makes them at will."""
NOTED_EVERY = timedelta(minutes=5)
"""How exactly the last use of a session is known: a write for each request would cost more than the request."""

SECRET_BYTES = 32
_SECRET_LIMIT = 100
"""Characters of a secret that is looked up."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session with its secret."""

    stored: StoredSession
    secret: str = field(repr=False)


class WebSessions:
    """Sessions as the database has them. Raises DatabaseUnusable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def begin(
        self, user: User, former: StoredSession | None = None, identity: UserIdentity | None = None
    ) -> OpenSession:
        """Begin a session of a user who has presented the password, or an identity. `former`: ends with it."""
        proven_at = user.password_changed_at if identity is None else identity.created_at
        assert proven_at is not None, "whoever has presented a password has one"
        return await self._begin(user, proven_at, None if identity is None else identity.id, former)

    async def renew(self, user: User, former: StoredSession) -> OpenSession:
        """Begin a session in the place of another one, by what was presented for that."""
        return await self._begin(user, former.password_changed_at, former.identity_id, former)

    async def _begin(
        self, user: User, proven_at: datetime, identity_id: int | None, former: StoredSession | None
    ) -> OpenSession:
        secret, now = _new_secret(), self._clock()
        session = StoredSession(0, user.id, proven_at, user.admin, now, now, identity_id)

        async def begin(connection: Connection) -> StoredSession:
            await web_sessions.prune(connection, now - LONGEST, now - IDLE)
            if former is not None:
                await web_sessions.end(connection, former.id)
            created = await web_sessions.create(connection, session, hash_secret(secret))
            await web_sessions.end_beyond(connection, user.id, MOST)
            return created

        return OpenSession(await self._database.transact(begin), secret)

    async def find(self, secret: str) -> OpenSession | None:
        """Find the session of a secret, and note its use; None where it has ended."""
        if not 0 < len(secret) <= _SECRET_LIMIT:
            return None
        find = partial(web_sessions.find_by_hash, secret_hash=hash_secret(secret))
        stored, now = await self._database.query(find), self._clock()
        if stored is None or not _is_open(stored, now):
            return None
        if now - stored.used_at >= NOTED_EVERY:
            await self._database.transact(partial(web_sessions.note_use, id=stored.id, now=now), durable=False)
        return OpenSession(stored, secret)

    async def end(self, session: OpenSession) -> None:
        """End a session."""
        await self._database.transact(partial(web_sessions.end, id=session.stored.id))

    async def end_all(self, user_id: int) -> None:
        """End all sessions of a user."""
        await self._database.transact(partial(web_sessions.end_all, user_id=user_id))

    async def count(self, user_id: int) -> int:
        """Count the sessions of a user that have not ended."""
        now = self._clock()
        return await self._database.query(
            partial(web_sessions.count_of, user_id=user_id, created_after=now - LONGEST, used_after=now - IDLE)
        )


def _is_open(session: StoredSession, now: datetime) -> bool:
    """Whether a session has not ended. One of the future was begun by a clock that was wrong, and would last longer."""
    began = now - session.created_at
    return -NOTED_EVERY <= began < LONGEST and now - session.used_at < IDLE


def _new_secret() -> str:
    return token_urlsafe(SECRET_BYTES)
