"""Access tokens of projects and groups, as whoever may administer these makes, rotates and ends them.

Nobody makes, takes over or ends a token with a role above the own one. A bot makes no token but the one that takes the
place of its own, so that whoever has its secret has nothing else once that is revoked.
"""

from collections.abc import Collection
from datetime import datetime

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.directory.access_tokens import AccessToken
from gateway.directory.places import Place
from gateway.directory.token_administration import Issued
from gateway.inspection.place_finder import PlaceFinder
from gateway.namespaces.credentials import Scope
from gateway.namespaces.errors import BotRefused
from gateway.namespaces.role import Role
from gateway.services import Services

NO_PERSON = "an access token makes no other tokens: a person does"


class AccessTokenChanges:
    """Changes access tokens. The caller has found the place for somebody who may administer it.

    Raises PlaceRefused where a role is above the own one, BotRefused for whoever is no person, TreeError where a token
    is refused, DatabaseUnusable.
    """

    def __init__(self, services: Services) -> None:
        self._tokens = services.access_tokens
        self._personal_tokens = services.personal_tokens
        self._finder = PlaceFinder(services)
        self._audited = AuditedChanges(services.audit)

    async def create(
        self,
        actor: Actor,
        place: Place,
        role: Role,
        name: str,
        scopes: Collection[Scope],
        expires_at: datetime | None,
        description: str = "",
    ) -> Issued[AccessToken]:
        """Make a token, with a bot that is a member of the place. `expires_at`: None for the longest lifetime."""
        user = actor.principal.user
        if user is None:
            raise BotRefused("the token belongs to no user")
        await self.require(actor, place, role)
        made = await self._tokens.create(place.key, user.id, role, name, scopes, expires_at, description)
        self._audited.granted(actor, place.path, made.token.token)
        return made

    async def revoke(self, actor: Actor, place: Place, found: AccessToken) -> None:
        """End a token; its bot is no member any more."""
        await self.require(actor, place, found.role)
        await self._personal_tokens.revoke(found.token.id)
        self._audited.revoked(actor, place.path, found.token)

    async def take_over(
        self, actor: Actor, place: Place, found: AccessToken, expires_at: datetime | None
    ) -> Issued[AccessToken]:
        """End a token, and make one of the same bot that takes its place, for somebody else than that bot."""
        await self.require(actor, place, found.role)
        user = actor.principal.user
        if user is None or (user.id != found.token.user_id and await self._tokens.is_bot(user.id)):
            raise BotRefused(NO_PERSON)
        return await self.rotate(actor, place, found, expires_at)

    async def rotate(
        self, actor: Actor, place: Place, found: AccessToken, expires_at: datetime | None
    ) -> Issued[AccessToken]:
        """End the token that somebody has sent, and make one that takes its place."""
        made = await self._personal_tokens.rotate(found.token.id, expires_at)
        self._audited.revoked(actor, place.path, found.token)
        self._audited.granted(actor, place.path, made.token)
        return Issued(AccessToken(made.token, found.role), made.secret)

    async def require(self, actor: Actor, place: Place, role: Role | None) -> None:
        """Check that somebody has at least a role at a place. `role`: None for that of a token that has ended."""
        if role is not None:
            await self._finder.require_at_most_own(actor.principal, place, role)
