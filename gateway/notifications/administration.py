"""WebhookAdministration: webhooks that are listed, made, changed, tried and deleted, by whoever may. Nothing is decided
about rights here."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from gateway.db import webhook_deliveries, webhooks
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.webhook_deliveries import Delivery
from gateway.db.windows import ListPart, ListWindow
from gateway.keys.sealing import Sealer
from gateway.namespaces.node import NodeKey
from gateway.notifications.notifier import Sending, new_delivery_id
from gateway.notifications.sender import AttemptOutcome, signing_context, token_context
from gateway.webhooks.cause import current_cause
from gateway.webhooks.envelope import Envelopes
from gateway.webhooks.event import RegistryEvent, Trigger
from gateway.webhooks.signing import parse_key
from gateway.webhooks.webhook import Webhook, WebhookInvalid, WebhookUnknown, check_url, names_private_address

SAMPLE_DIGEST = f"sha256:{'0' * 64}"
SAMPLE_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """Properties that a webhook is given; None leaves one as it is, and an empty token drops it."""

    url: str | None = None
    name: str | None = None
    description: str | None = None
    verify_tls: bool | None = None
    triggers: frozenset[Trigger] | None = None
    token: str | None = field(default=None, repr=False)
    signing_token: str | None = field(default=None, repr=False)


class WebhookAdministration:
    """Webhooks as the database has them. `node`: the project or group that has them; None for those of the server.

    Raises WebhookInvalid, WebhookUnknown, SealBroken, DatabaseUnusable.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        sender: Sending,
        instance: str,
        clock: Callable[[], datetime],
        allows_private: Callable[[str], bool],
    ) -> None:
        """`instance`: which server it is. `allows_private`: whether the host of a URL may have an address that is not
        public."""
        self._database = database
        self._sealer = sealer
        self.sender = sender
        self._instance = instance
        self._clock = clock
        self._allows_private = allows_private

    async def list_of(self, node: NodeKey | None) -> list[Webhook]:
        """List webhooks in the order in which they were made."""
        return await self._database.query(partial(webhooks.list_of, node=node))

    async def get(self, node: NodeKey | None, id: int) -> Webhook:
        """Get one webhook."""
        return await self._database.query(partial(webhooks.get, node=node, id=id))

    async def create(self, node: NodeKey | None, given: WebhookChanges) -> Webhook:
        """Make a webhook. `given.url` is there."""
        self._check(given)
        blank = Webhook(0, secrets.token_hex(16), node, given.url or "", frozenset(), self._clock())
        made = self._applied(blank, given)
        return await self._database.transact(partial(webhooks.create, webhook=made))

    async def update(self, node: NodeKey | None, id: int, given: WebhookChanges) -> tuple[Webhook, Webhook]:
        """Change a webhook; returns it as before, and as now. One whose URL changes loses its secrets unless new ones
        are given: they were meant for another receiver. It is told of events again at once."""
        self._check(given)

        async def update(connection: Connection) -> tuple[Webhook, Webhook]:
            before = await webhooks.get(connection, node, id)
            start = before.succeeded()
            if given.url is not None and given.url != before.url:
                start = replace(start, token_sealed=None, signing_sealed=None)
            return before, await webhooks.update(connection, self._applied(start, given))

        return await self._database.transact(update)

    async def delete(self, node: NodeKey | None, id: int) -> Webhook:
        """Delete a webhook with its deliveries, and return it."""
        return await self._database.transact(partial(webhooks.delete, node=node, id=id))

    async def deliveries(self, node: NodeKey | None, id: int, window: ListWindow) -> ListPart[Delivery]:
        """A part of the deliveries of a webhook."""
        async with self._database.read() as connection:
            webhook = await webhooks.get(connection, node, id)
            return await webhook_deliveries.list_part(connection, webhook.id, window)

    async def redeliver(self, node: NodeKey | None, id: int, delivery_id: int) -> Delivery:
        """Let a delivery be sent again, whatever became of it; its id stays, by which the receiver knows it."""
        now = self._clock()

        async def redeliver(connection: Connection) -> Delivery:
            webhook = await webhooks.get(connection, node, id)
            delivery = await webhook_deliveries.find(connection, webhook.id, delivery_id)
            if delivery is None:
                raise WebhookUnknown(f"there is no delivery {delivery_id}")
            await webhook_deliveries.redeliver(connection, delivery, now)
            return delivery

        return await self._database.transact(redeliver)

    async def try_out(self, node: NodeKey | None, id: int, trigger: Trigger, path: str, url: str) -> AttemptOutcome:
        """Send a webhook a sample event at once, and return what became of it; a success ends its pause. `path`: of the
        repository that the sample names; `url`: by which clients reach the registry."""
        webhook, now = await self.get(node, id), self._clock()
        sample = RegistryEvent(
            *(0, now, trigger, path, None, "test", SAMPLE_DIGEST, SAMPLE_TYPE, 0), cause=current_cause()
        )
        payload = Envelopes(url, self._instance).write([sample])
        outcome = await self.sender.send(webhook, Delivery(0, webhook.id, new_delivery_id(), trigger, payload, now))
        if outcome.is_success and webhook != webhook.succeeded():
            await self._database.transact(partial(webhooks.note_standing, webhook=webhook.succeeded()))
        return outcome

    def _check(self, given: WebhookChanges) -> None:
        if given.url is not None:
            check_url(given.url)
            if names_private_address(given.url) and not self._allows_private(given.url):
                raise WebhookInvalid("url", "is blocked: its address is not on the public internet")
        if given.token and not given.token.isascii():
            raise WebhookInvalid("token", "is no ASCII text: it is sent in a header")
        if given.signing_token:
            parse_key(given.signing_token)

    def _applied(self, webhook: Webhook, given: WebhookChanges) -> Webhook:
        """The webhook with the properties that are given."""
        token, signing = webhook.token_sealed, webhook.signing_sealed
        if given.token is not None:
            token = self._sealer.seal(given.token, token_context(webhook.uid)) if given.token else None
        if given.signing_token is not None:
            context = signing_context(webhook.uid)
            signing = self._sealer.seal(given.signing_token, context) if given.signing_token else None
        return replace(
            webhook,
            url=webhook.url if given.url is None else given.url,
            name=webhook.name if given.name is None else given.name,
            description=webhook.description if given.description is None else given.description,
            verify_tls=webhook.verify_tls if given.verify_tls is None else given.verify_tls,
            triggers=webhook.triggers if given.triggers is None else given.triggers,
            token_sealed=token,
            signing_sealed=signing,
        )
