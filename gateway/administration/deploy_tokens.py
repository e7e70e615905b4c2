"""Deploy tokens of projects and groups, as whoever may administer these makes and ends them."""

from collections.abc import Collection
from datetime import datetime

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import name_token, tell_token
from gateway.directory.places import Place
from gateway.directory.token_administration import Issued
from gateway.namespaces.credentials import DeployToken, Scope
from gateway.services import Services


class DeployTokenChanges:
    """Finds and changes deploy tokens. The caller has found the place for somebody who may do that there. Raises
    TreeError where a token is refused, DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._tokens = services.deploy_tokens
        self._audited = AuditedChanges(services.audit)

    async def find(self, place: Place, id: int) -> DeployToken | None:
        """Find a token of a place itself by its id, also one that has ended."""
        token = await self._tokens.find(id)
        if token is None or token.node != place.key:
            return None
        return token

    async def create(
        self,
        actor: Actor,
        place: Place,
        name: str,
        username: str | None,
        scopes: Collection[Scope],
        expires_at: datetime | None,
    ) -> Issued[DeployToken]:
        """Make a token. `username`: None for the default; `expires_at`: None for no end."""
        made = await self._tokens.create(place.key, name, username, scopes, expires_at)
        self._note(actor, EventKind.CREATE, place, made.token, after=tell_token(made.token))
        return made

    async def revoke(self, actor: Actor, place: Place, token: DeployToken) -> None:
        """End a token, with the secrets that stand for it in jobs."""
        await self._tokens.revoke(token.id)
        self._note(actor, EventKind.DELETE, place, token, before=tell_token(token))

    def _note(self, actor: Actor, kind: EventKind, place: Place, token: DeployToken, **told: str) -> None:
        self._audited.changed(actor, kind, Subject.DEPLOY_TOKEN, place.path, name_token(token), **told)
