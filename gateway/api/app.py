"""RestApi: the app of every path below /api/v4."""

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cache.runtime.on_behalf import on_behalf_of
from gateway.administration.accounts import AccountChanges
from gateway.api.access_tokens import AccessTokens
from gateway.api.account_documents import AccountDocuments
from gateway.api.audit_events import AuditEvents
from gateway.api.bulk_deletion import BulkDeletions
from gateway.api.deploy_tokens import DeployTokens
from gateway.api.documents import DocumentWriter
from gateway.api.errors import Forbidden, LoginNeeded, MethodNotAllowed, PathUnknown, ScopeInsufficient
from gateway.api.group_caches import GroupCaches
from gateway.api.group_changes import GroupChanges
from gateway.api.groups import Groups
from gateway.api.job_scope import JobScope
from gateway.api.jobs import Jobs
from gateway.api.login import authenticate, presented
from gateway.api.members import Members
from gateway.api.namespaces import Namespaces
from gateway.api.openapi import ApiDescription
from gateway.api.options import ApiOptions
from gateway.api.parameters import read_parameters
from gateway.api.personal_tokens import PersonalTokens
from gateway.api.places import Places
from gateway.api.project_changes import ProjectChanges
from gateway.api.projects import Projects
from gateway.api.protection_rules import ProtectionRuleRoutes
from gateway.api.proxy_settings import ProxySettingsRoutes
from gateway.api.rate_limits import RateLimits
from gateway.api.repositories import Repositories
from gateway.api.repository_changes import RepositoryChanges
from gateway.api.routing import Call, Found, Route, RouteTable
from gateway.api.server import ServerFacts
from gateway.api.shapes import NoParameters
from gateway.api.tag_changes import TagChanges
from gateway.api.tags import Tags
from gateway.api.trees import Trees
from gateway.api.users import Users
from gateway.api.virtual import virtual_resources
from gateway.api.webhooks import Webhooks
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import CHANGING_SCOPES, READING_SCOPES
from gateway.auth.permissions import no_administrator
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind, describe
from gateway.auth.refused_logins import LoginRefused
from gateway.auth.requester import requester_of
from gateway.auth.token_limits import missing_api_scope
from gateway.http.access_log import note_principal
from gateway.http.causes import cause_of, note_actor
from gateway.server.client_connection import note_accepted
from gateway.services import Services
from gateway.webhooks.cause import caused_by

_READS = ("GET", "HEAD")
_OF_JOBS = {PrincipalKind.JOB_TOKEN: "the token of a job", PrincipalKind.ID_TOKEN: "an ID token"}


def route_table(services: Services, options: ApiOptions) -> RouteTable:
    """Make the table of all routes."""
    places, documents, native = Places(services), DocumentWriter(options), services.native
    namespaces = Namespaces(services, places, documents, options)
    audited = AuditedChanges(services.audit)
    accounts = AccountDocuments(options, documents, services.clock)
    resources = (
        Repositories(places, native, documents, options),
        RepositoryChanges(places, services, documents, audited, options),
        BulkDeletions(places, services),
        TagChanges(places, services, documents, audited, options),
        Tags(places, native.inventory, documents, options),
        Projects(services, places, documents, options),
        Groups(places, documents),
        GroupCaches(services, places, options),
        ProxySettingsRoutes(services, places, options),
        Trees(services, places, documents, options),
        GroupChanges(services, places, documents, options),
        ProjectChanges(services, places, namespaces, documents, options),
        Members(services, places, documents, options),
        ProtectionRuleRoutes(services, places, options),
        *virtual_resources(services, places, audited, options),
        namespaces,
        ServerFacts(documents),
        Users(services.users, accounts, AccountChanges(services), options),
        PersonalTokens(services.personal_tokens, services.users, accounts, audited, options),
        DeployTokens(places, services, accounts, options),
        AccessTokens(places, services, accounts, options),
        Jobs(places, services, accounts, audited, options),
        JobScope(places, services, audited, options),
        AuditEvents(services, places, options),
        Webhooks(services, places, options),
    )
    routes = [route for resource in resources for route in resource.routes]
    routes.append(ApiDescription(routes, options).route)
    return RouteTable(routes)


class RestApi:
    """App for every path below /api/v4, inside ApiErrors: raises what that renders."""

    def __init__(self, services: Services, options: ApiOptions, limits: RateLimits) -> None:
        """`limits`: of all requests by any API."""
        self._authenticator = services.authenticator
        self._directory = services.directory
        self._personal_tokens = services.personal_tokens
        self._audited = AuditedChanges(services.audit)
        self._limits = limits
        self._table = route_table(services, options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        found = self._table.find(request.scope["raw_path"])
        principal = await self._authenticate(request, found)
        self._limits.admit(request, principal)
        if not principal.is_anonymous:
            note_accepted(request.scope)
            note_principal(request.scope, describe(principal))
            note_actor(request.scope, principal.name)
            await self._directory.require_current()
        if found is None:
            raise PathUnknown()
        route = _route_of(found, request.method)
        _admit(principal, route)
        requester = requester_of(principal, request.client.host if request.client else "")
        with on_behalf_of(requester), caused_by(partial(cause_of, request)):
            parameters = route.shape.read(await read_parameters(request))
            return await route.handler(Call(request, principal, found.path, parameters))

    async def _authenticate(self, request: Request, found: Found | None) -> Principal:
        """The principal of a request. A token that was rotated, and that is sent to rotate again, ends its family."""
        try:
            return await authenticate(request, self._authenticator)
        except LoginRefused:
            self._limits.admit(request, ANONYMOUS)
            route = None if found is None else found.routes.get(request.method)
            if route is not None and route.rotates:
                await self._note_reuse(Call(request, ANONYMOUS, {}, NoParameters()))
            raise

    async def _note_reuse(self, call: Call[NoParameters]) -> None:
        for revoked in await self._personal_tokens.note_reuse(presented(call.request)):
            owner = await self._directory.user(revoked.user_id)
            self._audited.reused(call, revoked, owner.name if owner else "")


def _route_of(found: Found, method: str) -> Route[Any]:
    """The route of a method; a HEAD is a GET, whose body is not sent. Raises MethodNotAllowed."""
    route = found.routes.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed([*found.routes, *(["HEAD"] if "GET" in found.routes else [])])
    return route


def _admit(principal: Principal, route: Route[Any]) -> None:
    """Check that a principal may use a route at all, wherever it leads. Raises ApiError."""
    if principal.is_anonymous and not route.anonymous:
        raise LoginNeeded("the route needs a token")
    if principal.kind in (PrincipalKind.JOB_TOKEN, PrincipalKind.ID_TOKEN) and not route.jobs:
        raise Forbidden(f"{_OF_JOBS[principal.kind]} is not accepted here: use a personal access token")
    changes = route.method not in _READS
    if not route.any_scope and (too_narrow := missing_api_scope(principal, changes=changes)):
        raise ScopeInsufficient(too_narrow, CHANGING_SCOPES if changes else READING_SCOPES)
    if route.administrators and (unfit := no_administrator(principal)):
        raise Forbidden(unfit)
