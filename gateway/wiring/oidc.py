"""Issuers of ID tokens, from the settings: their clients, their keys as a process knows them, and logins by them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from cache.runtime.tasks import Tasks
from cache.upstream.egress import Egress
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.urls import origin_of
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.auth.id_tokens import IdTokenLogins, TrustedIssuer
from gateway.db.engine import Database
from gateway.directory.directory import Directory
from gateway.directory.id_token_logins import IdTokenLoginAdministration
from gateway.namespaces.credentials import IdTokenLogin
from gateway.namespaces.node import NodeKind
from gateway.namespaces.role import Role
from gateway.oidc.issuer import IssuerClient
from gateway.oidc.key_set import PATIENCE, IssuerKeys
from gateway.oidc.rules import AsUser, ClaimRule, RoleAt, Target
from gateway.settings.tables import ClaimRuleSettings, OidcSettings, Settings

_TIMINGS = UpstreamTimings(connect=3.0, read=4.0, body=5.0, connections=4)
"""Time limits towards an issuer: a client waits for its login meanwhile."""


def issuer_client(issuer: OidcSettings) -> IssuerClient:
    """Make the client of an issuer, with an egress of its own; its owner closes it."""
    origin = origin_of(issuer.issuer)
    own = origin.host if origin.port == 443 else f"{origin.host}:{origin.port}"
    reach = Reach(
        hosts=frozenset({own, *issuer.hosts}),
        private_addresses=issuer.private_addresses,
        ca_file=issuer.ca_file,
        proxy=issuer.proxy,
        timings=_TIMINGS,
    )
    return IssuerClient(issuer.issuer, Egress(reach))


def claim_rules(issuer: OidcSettings) -> list[ClaimRule]:
    """The rules of an issuer, in their order."""
    return [ClaimRule(tuple(rule.claims.items()), _target_of(rule)) for rule in issuer.rule]


@asynccontextmanager
async def open_id_tokens(
    settings: Settings, database: Database, directory: Directory, audit: AuditLog, clock: Callable[[], datetime]
) -> AsyncIterator[IdTokenLogins | None]:
    """Open logins by ID tokens; None where no issuer is configured. Keys are fetched with the first login."""
    if not settings.oidc:
        yield None
        return
    tasks = Tasks()
    clients = {name: issuer_client(issuer) for name, issuer in settings.oidc.items()}
    issuers = [
        TrustedIssuer(
            name=name,
            url=issuer.issuer,
            audience=issuer.audience,
            rules=claim_rules(issuer),
            keys=IssuerKeys(name, clients[name].keys, tasks, patience=PATIENCE),
            lifetime=issuer.login,
            max_age=issuer.max_age,
        )
        for name, issuer in settings.oidc.items()
    ]

    def note(login: IdTokenLogin, rule: ClaimRule) -> None:
        audit.note(_event(login, rule.target))

    try:
        administration = IdTokenLoginAdministration(database, clock)
        yield IdTokenLogins(issuers, directory, administration, clock, note)
    finally:
        await tasks.close()
        for client in clients.values():
            await client.close()


def _target_of(rule: ClaimRuleSettings) -> Target:
    if rule.user or rule.role is None:
        return AsUser(rule.user)
    if rule.project:
        return RoleAt(NodeKind.PROJECT, rule.project, Role.parse(rule.role))
    return RoleAt(NodeKind.GROUP, rule.group, Role.parse(rule.role))


def _event(login: IdTokenLogin, target: Target) -> AuditEvent:
    """The event of a login that begins: whom an issuer vouched for, and what that gave."""
    who = f"ID token login {login.id} of {login.issuer} ({login.subject})"
    path = target.name if isinstance(target, AsUser) else target.path
    return AuditEvent(
        time.time(), EventKind.GRANT, Subject.TOKEN, Surface.REGISTRY, path, who=who, outcome=f"login as {target}"
    )
