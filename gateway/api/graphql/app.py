"""GraphqlApi: the app of /api/graphql, which takes documents as POST, and answers in the form of the language."""

import inspect
import json
from functools import partial
from typing import Any

import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    get_operation_ast,
    validate,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cache.oci.errors import RefusalReason
from cache.runtime.on_behalf import on_behalf_of
from cache.sqlite import DatabaseUnusable
from gateway.api.errors import Forbidden, MethodNotAllowed, ParametersInvalid, RequestRefused
from gateway.api.graphql.groups import GraphqlCall
from gateway.api.graphql.limits import parse_document
from gateway.api.graphql.root import MutationRoot, QueryRoot
from gateway.api.graphql.schema import SCHEMA
from gateway.api.login import authenticate
from gateway.api.options import ApiOptions
from gateway.api.parameters import read_parameters
from gateway.api.places import Places
from gateway.api.rate_limits import RateLimits
from gateway.api.routing import Call
from gateway.api.shapes import NoParameters
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind, describe
from gateway.auth.refused_logins import LoginRefused
from gateway.auth.requester import requester_of
from gateway.auth.token_limits import missing_api_scope
from gateway.http.access_log import note_principal, note_refused
from gateway.http.causes import cause_of, note_actor
from gateway.server.client_connection import note_accepted
from gateway.services import Services
from gateway.webhooks.cause import caused_by

log = structlog.get_logger()

PATH = "/api/graphql"

_FAILED = "Internal server error"


class GraphqlApi:
    """App for /api/graphql, inside ApiErrors, which answers what is refused before the document is looked at: clients
    take a body with `errors` for the answer to a document, whatever its status."""

    def __init__(self, services: Services, options: ApiOptions, limits: RateLimits) -> None:
        """`limits`: those of the REST API, so that nobody has twice as many requests by two of them."""
        self._services = services
        self._places = Places(services)
        self._options = options
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method != "POST":
            raise MethodNotAllowed(["POST"])
        principal = await self._authenticate(request)
        self._limits.admit(request, principal)
        if not principal.is_anonymous:
            note_accepted(request.scope)
            note_principal(request.scope, describe(principal))
            note_actor(request.scope, principal.name)
            await self._services.directory.require_current()
        if principal.kind in (PrincipalKind.JOB_TOKEN, PrincipalKind.ID_TOKEN):
            raise Forbidden("the token of a job is not accepted here: use a personal access token")
        text, variables, name = await _read(request)
        try:
            document = parse_document(text)
            operation = _operation_of(document, name)
        except GraphQLError as error:
            return self._invalid(request, [error])
        is_mutation = operation.operation is OperationType.MUTATION
        if too_narrow := missing_api_scope(principal, changes=is_mutation):
            raise Forbidden(too_narrow)
        if faults := validate(SCHEMA, document, max_errors=20):
            return self._invalid(request, faults)
        requester = requester_of(principal, request.client.host if request.client else "")
        with on_behalf_of(requester), caused_by(partial(cause_of, request)):
            return await self._execute(request, principal, document, variables, name, is_mutation)

    async def _authenticate(self, request: Request) -> Principal:
        try:
            return await authenticate(request, self._services.authenticator)
        except LoginRefused:
            self._limits.admit(request, ANONYMOUS)
            raise

    async def _execute(
        self,
        request: Request,
        principal: Principal,
        document: DocumentNode,
        variables: dict[str, Any],
        name: str | None,
        is_mutation: bool,
    ) -> Response:
        call: Call[Any] = Call(request, principal, {}, NoParameters())
        context = GraphqlCall(self._services, self._places, self._options, call)
        root: object = MutationRoot(context) if is_mutation else QueryRoot(context)
        running = execute(SCHEMA, document, root, context, variables, name)
        result: ExecutionResult = await running if inspect.isawaitable(running) else running
        errors = [_shown(error) for error in result.errors or ()]
        answer: dict[str, object] = {"data": result.data} | ({"errors": errors} if errors else {})
        return JSONResponse(answer)

    def _invalid(self, request: Request, faults: list[GraphQLError]) -> Response:
        """The response to a document that is not executed. Its words are not logged: it may hold a secret."""
        note_refused(request.scope, RefusalReason.INVALID, "the document is invalid")
        return JSONResponse({"errors": [fault.formatted for fault in faults]})


async def _read(request: Request) -> tuple[str, dict[str, Any], str | None]:
    """The document of a request, its variables, and the name of the operation that is wanted. Raises ApiError."""
    if request.scope["query_string"]:
        raise RequestRefused("400 Bad Request - a URL is kept in logs: send the document in the body alone")
    parameters = await read_parameters(request)
    text, variables, name = (parameters.get(key) for key in ("query", "variables", "operationName"))
    if isinstance(variables, str):  # of a form
        try:
            variables = json.loads(variables) if variables else None
        except (ValueError, RecursionError) as error:
            raise ParametersInvalid(["variables is invalid"]) from error
    if not isinstance(text, str) or not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise ParametersInvalid(["query is a text, variables an object, and operationName a text"])
    return text, variables or {}, name or None


def _operation_of(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operation = get_operation_ast(document, name)
    if operation is None:
        raise GraphQLError("Say by operationName which of the operations is wanted")
    return operation


def _shown(error: GraphQLError) -> dict[str, Any]:
    """An error as the client sees it. What went wrong here is logged, and not told. Raises DatabaseUnusable."""
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        return dict(error.formatted)
    if isinstance(original, DatabaseUnusable):
        raise original
    log.error("resolver_failed", path=error.path, exc_info=original)
    return {**error.formatted, "message": _FAILED}
