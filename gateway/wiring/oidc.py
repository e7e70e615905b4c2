"""Issuers of ID tokens, from the settings: their clients, their keys as a process knows them, and logins by them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from cache.runtime.tasks import Tasks
from cache.upstream.egress import Egress
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.urls import origin_of
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import AuditLog
from gateway.auth.id_tokens import IdTokenLogins, TrustedIssuer
from gateway.auth.oidc_sign_in import OidcSignIn, SignInIssuer
from gateway.db.engine import Database
from gateway.directory.directory import Directory
from gateway.directory.id_token_logins import IdTokenLoginAdministration
from gateway.directory.identity_administration import IdentityAdministration
from gateway.namespaces.credentials import IdTokenLogin
from gateway.namespaces.node import NodeKind
from gateway.namespaces.role import Role
from gateway.oidc.issuer import IssuerClient
from gateway.oidc.key_set import PATIENCE, IssuerKeys
from gateway.oidc.rules import AccountRule, AsUser, ClaimRule, RoleAt, Target
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
    """The rules of an issuer for tokens of CI, in their order."""
    return [ClaimRule(tuple(rule.claims.items()), target_of(rule)) for rule in issuer.rule if not rule.account]


@dataclass(frozen=True, slots=True)
class OpenedIssuers:
    """Logins by ID tokens, None where no issuer is configured, and sign-ins of people to pages."""

    id_tokens: IdTokenLogins | None
    sign_in: OidcSignIn


@asynccontextmanager
async def open_issuers(
    settings: Settings, database: Database, directory: Directory, audit: AuditLog, clock: Callable[[], datetime]
) -> AsyncIterator[OpenedIssuers]:
    """Open the issuers of the settings. Keys are fetched with the first login."""
    identities = IdentityAdministration(database, clock)
    if not settings.oidc:
        yield OpenedIssuers(None, OidcSignIn((), identities, clock))
        return
    tasks = Tasks()
    clients = {name: issuer_client(issuer) for name, issuer in settings.oidc.items()}
    keys = {name: IssuerKeys(name, client.keys, tasks, patience=PATIENCE) for name, client in clients.items()}
    issuers = [
        TrustedIssuer(
            name=name,
            url=issuer.issuer,
            audience=issuer.audience,
            rules=claim_rules(issuer),
            keys=keys[name],
            lifetime=issuer.login,
            max_age=issuer.max_age,
        )
        for name, issuer in settings.oidc.items()
    ]

    def note(login: IdTokenLogin, rule: ClaimRule) -> None:
        audit.note(_event(login, rule.target))

    try:
        administration = IdTokenLoginAdministration(database, clock)
        signing_in = [
            _sign_in_issuer(name, issuer, clients[name], keys[name])
            for name, issuer in settings.oidc.items()
            if issuer.client_id
        ]
        yield OpenedIssuers(
            IdTokenLogins(issuers, directory, administration, clock, note), OidcSignIn(signing_in, identities, clock)
        )
    finally:
        await tasks.close()
        for client in clients.values():
            await client.close()


def _sign_in_issuer(name: str, issuer: OidcSettings, client: IssuerClient, keys: IssuerKeys) -> SignInIssuer:
    rules = [AccountRule(tuple(rule.claims.items())) for rule in issuer.rule if rule.account]
    file = issuer.client_secret_file

    def read_secret() -> str:
        return "" if file is None else file.read_text().strip()

    return SignInIssuer(name, issuer.issuer, issuer.client_id, rules, client, keys, read_secret)


def target_of(rule: ClaimRuleSettings) -> Target:
    """What tokens of CI map to that meet a rule."""
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
