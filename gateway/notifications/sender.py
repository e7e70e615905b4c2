"""WebhookSender: one attempt of one delivery: what is sent, and what the outcome means."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cache.upstream.egress import FailureStage, stage_of
from cache.upstream.errors import Unavailable
from cache.upstream.urls import REDIRECTS
from gateway.db.webhook_deliveries import Delivery
from gateway.keys.sealing import SealBroken, Sealer
from gateway.release import DISTRIBUTION
from gateway.webhooks.envelope import MEDIA_TYPE
from gateway.webhooks.signing import parse_key, sign
from gateway.webhooks.webhook import Webhook

EVENT_NAMES = {
    "registry_push_events": "Registry Push Hook",
    "registry_pull_events": "Registry Pull Hook",
    "registry_delete_events": "Registry Delete Hook",
    "registry_cache_fill_events": "Registry Cache Fill Hook",
}
"""Values of the header X-Gitlab-Event, in the manner of GitLab's."""


class Posting(Protocol):
    """Sends a document by POST, and returns the status of the response. Raises Unavailable."""

    async def post(self, url: str, headers: dict[str, str], body: bytes, *, verify: bool, owner: str) -> int: ...


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """What became of an attempt. `status`: of the response; None where there was none. `problem`: why it failed; it
    repeats nothing that the receiver sent, and no secret."""

    status: int | None = None
    problem: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken the delivery."""
        return self.problem is None


class WebhookSender:
    """Sends deliveries. `clock`: seconds since 1970."""

    def __init__(self, posting: Posting, sealer: Sealer, clock: Callable[[], float] = time.time) -> None:
        self._posting = posting
        self._sealer = sealer
        self._clock = clock

    async def send(self, webhook: Webhook, delivery: Delivery) -> AttemptOutcome:
        """Send a delivery once. Raises nothing but cancellation."""
        body = delivery.payload.encode()
        try:
            headers = self._headers(webhook, delivery, body)
            status = await self._posting.post(
                webhook.url, headers, body, verify=webhook.verify_tls, owner=f"webhook-{webhook.id}"
            )
        except SealBroken as error:
            return AttemptOutcome(None, str(error))
        except Unavailable as error:
            return AttemptOutcome(None, _told(error))
        if 200 <= status < 300:
            return AttemptOutcome(status)
        more = ", a redirect, which is not followed" if status in REDIRECTS else ""
        return AttemptOutcome(status, f"{webhook.host} responded with {status}{more}")

    def _headers(self, webhook: Webhook, delivery: Delivery, body: bytes) -> dict[str, str]:
        """Raises SealBroken."""
        timestamp = int(self._clock())
        headers = {
            "Content-Type": MEDIA_TYPE,
            "User-Agent": DISTRIBUTION,
            "X-Gitlab-Event": EVENT_NAMES[delivery.trigger.value],
            "X-Gitlab-Webhook-UUID": webhook.uid,
            "X-Gitlab-Event-UUID": delivery.uid,
            "Idempotency-Key": delivery.uid,
            "webhook-id": delivery.uid,
            "webhook-timestamp": str(timestamp),
        }
        if webhook.token_sealed is not None:
            headers["X-Gitlab-Token"] = self._sealer.open(webhook.token_sealed, token_context(webhook.uid))
        if webhook.signing_sealed is not None:
            key = parse_key(self._sealer.open(webhook.signing_sealed, signing_context(webhook.uid)))
            headers["webhook-signature"] = sign(key, delivery.uid, timestamp, body)
        return headers


def token_context(uid: str) -> str:
    """What the token of a webhook is sealed to."""
    return f"webhook token:{uid}"


def signing_context(uid: str) -> str:
    """What the signing token of a webhook is sealed to."""
    return f"webhook signing token:{uid}"


def _told(error: Unavailable) -> str:
    """Why a request had no response."""
    advice = "; an administrator may name the host in webhooks.private_hosts"
    return error.reason + (advice if stage_of(error) in _UNKNOWN_PLACE else "")


_UNKNOWN_PLACE = (FailureStage.ADDRESS, FailureStage.NAME)
"""Stages that are not told apart: that would tell of the network behind this server."""
