"""Audited: what requests pulled, as events of the audit log."""

from starlette.requests import Request

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.repository import FoundManifest
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.auth.principal import Principal, describe
from gateway.http.access_log import request_id_of
from gateway.repositories import Opened
from gateway.services import Services


class Audited:
    """Notes events with whoever caused them. Nothing of it is a secret, and no request fails for it."""

    def __init__(self, services: Services) -> None:
        self._audit = services.audit
        self._clock = services.clock

    def pulled(
        self, request: Request, principal: Principal, opened: Opened, reference: Tag | Digest, found: FoundManifest
    ) -> None:
        """Note that a manifest is sent."""
        outcome, client = found.status.outcome, request.scope["client"]  # `request.client` makes an object each time
        event = AuditEvent(
            self._clock().timestamp(),
            EventKind.PULL,
            Subject.MANIFEST,
            Surface.REGISTRY,
            opened.path,
            tag=reference.text if isinstance(reference, Tag) else None,
            digest=str(found.manifest.descriptor.digest),
            who=describe(principal),
            user=principal.name or None,
            client=client[0] if client else None,
            outcome=outcome.value if outcome else None,
            request_id=request_id_of(request.scope),
        )
        self._audit.note(event)
