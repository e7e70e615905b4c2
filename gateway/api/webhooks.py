"""Webhooks of projects, groups and the server: what they are told of, what they were sent, and attempts by hand.

No secret of a webhook is in any answer.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import structlog
from starlette.responses import Response

from gateway.api.documents import moment
from gateway.api.errors import Forbidden, KeysUnusable, ParametersInvalid, ResourceUnknown, Unprocessable, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.rate_limits import RateLimits, RateOptions
from gateway.api.responses import no_content, one, page, page_of, window_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import ListShape, NoParameters, is_id
from gateway.api.webhook_shapes import ServerWebhookShape, WebhookEventListShape, WebhookShape
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.auth.matrix import Action
from gateway.db.webhook_deliveries import Delivery
from gateway.keys.sealing import SealBroken
from gateway.namespaces.node import NodeKey
from gateway.namespaces.role import Role
from gateway.notifications.administration import WebhookAdministration
from gateway.services import Services
from gateway.webhooks.event import Trigger
from gateway.webhooks.webhook import Webhook, WebhookInvalid, WebhookUnknown

log = structlog.get_logger()

HOOK = "Hook"
ATTEMPTS = 30
"""Attempts by hand that a user may make in a minute: each is a request to a host of the user's choice."""

DEFAULT = frozenset({Trigger.PUSH, Trigger.DELETE})
"""What a new webhook is told of unless its switches say otherwise."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """What has webhooks: a project, a group, or the server, whose node is None."""

    node: NodeKey | None = None
    path: str = ""

    @property
    def attributes(self) -> dict[str, object]:
        """The attribute of a webhook's document that names its holder."""
        return {} if self.node is None else {f"{self.node.kind.value}_id": self.node.id}


HolderOf = Callable[["Call[Any]", bool], Awaitable[_Holder]]
"""Finds what a path names, for a caller that may look after its webhooks; with True, that may change them."""


class Webhooks:
    """Handlers of webhooks."""

    def __init__(self, services: Services, places: Places, options: ApiOptions) -> None:
        self._webhooks: WebhookAdministration = services.webhooks
        self._clock = services.clock
        self._attempts = RateLimits(RateOptions(user=ATTEMPTS))
        self._audited = AuditedChanges(services.audit)
        self._places = places
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            *self._routes("/projects/{id}/hooks", self._project, WebhookShape),
            *self._routes("/groups/{id}/hooks", self._group, WebhookShape),
            *self._routes("/hooks", self._server, ServerWebhookShape, administrators=True),
        ]

    def _routes(
        self, every: str, holder_of: HolderOf, shape: type[WebhookShape], *, administrators: bool = False
    ) -> list[Route[Any]]:
        """The routes of the webhooks of projects, of groups, or of the server."""
        single, sent = f"{every}/{{hook_id}}", f"{every}/{{hook_id}}/events"

        async def by_hand(call: "Call[Any]") -> _Holder:
            holder = await holder_of(call, True)
            self._attempts.admit(call.request, call.principal)
            return holder

        async def list_some(call: Call[ListShape]) -> Response:
            """List the webhooks of a project, of a group itself, or of the server."""
            return await self._list(call, await holder_of(call, False))

        async def show(call: Call[NoParameters]) -> Response:
            """Show one webhook, and whether it is disabled because it fails."""
            holder = await holder_of(call, False)
            return one(self._document(holder, await self._get(call, holder)))

        async def create(call: Call[WebhookShape]) -> Response:
            """Make a webhook, which is told of pushes and deletions unless the switches say otherwise."""
            return await self._create(call, await holder_of(call, True))

        async def update(call: Call[WebhookShape]) -> Response:
            """Change a webhook. With another URL it loses its tokens unless they are given."""
            return await self._update(call, await holder_of(call, True))

        async def delete(call: Call[NoParameters]) -> Response:
            """Delete a webhook, and what it was sent."""
            return await self._delete(call, await holder_of(call, True))

        async def try_out(call: Call[NoParameters]) -> Response:
            """Send a webhook a sample of an event now; where it succeeds, the webhook is enabled again."""
            return await self._try_out(call, await by_hand(call))

        async def list_events(call: Call[WebhookEventListShape]) -> Response:
            """List what a webhook was sent in the last seven days, and what became of it, the latest first."""
            return await self._list_events(call, await holder_of(call, False))

        async def resend(call: Call[NoParameters]) -> Response:
            """Send a webhook an event once more."""
            return await self._resend(call, await by_hand(call))

        kinds, kind = "webhooks", "webhook"
        routes: list[Route[Any]] = [
            Route("GET", every, list_some, ListShape, kinds, answer="Webhooks"),
            Route("POST", every, create, shape, kind, status=201, unique=True, answer="Webhook"),
            Route("GET", single, show, NoParameters, kind, answer="Webhook"),
            Route("PUT", single, update, shape, kind, unique=True, answer="Webhook"),
            Route("DELETE", single, delete, NoParameters, kind, status=204),
            Route("POST", f"{single}/test/{{trigger}}", try_out, NoParameters, kind, status=201, unique=True),
            Route("GET", sent, list_events, WebhookEventListShape, "webhook events", answer="WebhookEvents"),
            Route("POST", f"{sent}/{{hook_event_id}}/resend", resend, NoParameters, kind, status=201),
        ]
        return [replace(route, administrators=administrators) for route in routes]

    async def _list(self, call: Call[ListShape], holder: _Holder) -> Response:
        found = await self._webhooks.list_of(holder.node)
        chosen = [webhook for webhook in found if call.parameters.search.lower() in webhook.name.lower()]
        return page_of(call, self._options, chosen, lambda webhook: self._document(holder, webhook))

    async def _create(self, call: Call[WebhookShape], holder: _Holder) -> Response:
        if call.parameters.url is None:
            raise ParametersInvalid(["url is missing"])
        with _refusals():
            webhook = await self._webhooks.create(holder.node, call.parameters.changes(DEFAULT))
        self._note(call, EventKind.CREATE, holder, webhook, after=_told(webhook))
        return one(self._document(holder, webhook), 201)

    async def _update(self, call: Call[WebhookShape], holder: _Holder) -> Response:
        found = await self._get(call, holder)
        with _refusals():
            changes = call.parameters.changes(found.triggers)
            before, webhook = await self._webhooks.update(holder.node, found.id, changes)
        self._note(call, EventKind.UPDATE, holder, webhook, before=_told(before), after=_told(webhook))
        return one(self._document(holder, webhook))

    async def _delete(self, call: Call[NoParameters], holder: _Holder) -> Response:
        with _refusals():
            webhook = await self._webhooks.delete(holder.node, _number(call, "hook_id"))
        self._note(call, EventKind.DELETE, holder, webhook, before=_told(webhook))
        return no_content()

    async def _try_out(self, call: Call[NoParameters], holder: _Holder) -> Response:
        webhook = await self._get(call, holder)
        allowed = [trigger.value for trigger in Trigger if trigger is not Trigger.FILL or holder.node is None]
        if call.path["trigger"] not in allowed:
            raise ParametersInvalid(["trigger does not have a valid value"])
        trigger, path = Trigger(call.path["trigger"]), f"{holder.path}/sample" if holder.path else "sample"
        outcome = await self._webhooks.try_out(holder.node, webhook.id, trigger, path, self._options.url)
        if not outcome.is_success:
            raise Unprocessable(f"422 Unprocessable Entity - {outcome.problem}")
        return one({"message": "201 Created"}, 201)

    async def _list_events(self, call: Call[WebhookEventListShape], holder: _Holder) -> Response:
        wanted = call.parameters
        after = int(wanted.cursor) if wanted.pagination is not None and wanted.cursor else None
        with _refusals():
            number = _number(call, "hook_id")
            part = await self._webhooks.deliveries(holder.node, number, window_of(wanted, after))
        cursor = {"cursor": str(part.rows[-1].id)} if part.rows else {}
        return page(call, self._options, part, [_delivery_document(delivery) for delivery in part.rows], cursor)

    async def _resend(self, call: Call[NoParameters], holder: _Holder) -> Response:
        with _refusals():
            number, event = _number(call, "hook_id"), _number(call, "hook_event_id")
            await self._webhooks.redeliver(holder.node, number, event)
        return one({"message": "201 Created"}, 201)

    async def _get(self, call: "Call[Any]", holder: _Holder) -> Webhook:
        with _refusals():
            return await self._webhooks.get(holder.node, _number(call, "hook_id"))

    async def _project(self, call: "Call[Any]", changes: bool) -> _Holder:
        place = await self._places.project(call.path["id"], call.principal, Action.ADMIN if changes else Action.TOKENS)
        return _Holder(place.project.key, place.project.path)

    async def _group(self, call: "Call[Any]", changes: bool) -> _Holder:
        place = await self._places.group_for(call.path["id"], call.principal, Action.ADMIN if changes else Action.KNOW)
        role = await self._places.role(call.principal, place.way)
        if role is None or role < Role.OWNER:
            raise Forbidden("owners look after the webhooks of a group")
        return _Holder(place.group.key, place.group.path)

    async def _server(self, call: "Call[Any]", changes: bool) -> _Holder:
        return _Holder()

    def _document(self, holder: _Holder, webhook: Webhook) -> dict[str, object]:
        paused = webhook.disabled_until
        switches = {trigger.value: trigger in webhook.triggers for trigger in Trigger}
        if holder.node is not None:
            del switches[Trigger.FILL.value]
        return {
            "id": webhook.id,
            "url": webhook.url,
            "name": webhook.name,
            "description": webhook.description,
            **holder.attributes,
            "created_at": moment(webhook.created_at),
            "enable_ssl_verification": webhook.verify_tls,
            **switches,
            "token_present": webhook.token_sealed is not None,
            "signing_token_present": webhook.signing_sealed is not None,
            "alert_status": webhook.status(self._clock()).value,
            "disabled_until": None if paused is None else moment(paused),
        }

    def _note(self, call: "Call[Any]", kind: EventKind, holder: _Holder, webhook: Webhook, **told: str) -> None:
        target = f"{webhook.id} ({webhook.host})"
        self._audited.changed(call, kind, Subject.WEBHOOK, holder.path or "-", target, **told)


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate what is refused of webhooks within the block. Raises ApiError."""
    try:
        yield
    except WebhookUnknown as error:
        raise ResourceUnknown(HOOK, str(error)) from error
    except WebhookInvalid as error:
        raise ValuesRefused({error.attribute: [str(error)]}) from error
    except SealBroken as error:
        log.error("sealing_keys_unusable", reason=str(error))
        raise KeysUnusable(str(error)) from error


def _number(call: "Call[Any]", name: str) -> int:
    """The number that a path names; one that nothing has raises ResourceUnknown."""
    if not is_id(call.path[name]):
        raise ResourceUnknown(HOOK)
    return int(call.path[name])


def _told(webhook: Webhook) -> str:
    """What the audit log says of a webhook: its URL may hold a secret, and is not among it."""
    facts = [trigger.value for trigger in Trigger if trigger in webhook.triggers]
    facts += [] if webhook.verify_tls else ["no TLS verification"]
    facts += ["token"] if webhook.token_sealed is not None else []
    facts += ["signing token"] if webhook.signing_sealed is not None else []
    return ", ".join(facts)


def _delivery_document(delivery: Delivery) -> dict[str, object]:
    next_at, ended_at = delivery.next_at, delivery.ended_at
    return {
        "id": delivery.id,
        "trigger": delivery.trigger.value,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "response_status": None if delivery.response_status is None else str(delivery.response_status),
        "problem": delivery.problem,
        "message_id": delivery.uid,
        "request_data": delivery.payload,
        "created_at": moment(delivery.created_at),
        "next_attempt_at": None if next_at is None else moment(next_at),
        "ended_at": None if ended_at is None else moment(ended_at),
    }
