"""The description of the REST API as an OpenAPI document, made from the routes that serve it."""

import inspect
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from gateway.api.options import ApiOptions
from gateway.api.parameters import FORM, JSON
from gateway.api.responses import one
from gateway.api.routing import BASE, Call, Route
from gateway.api.schemas import REFUSAL, Schema, all_schemas, reference
from gateway.api.shapes import NoParameters, PageShape, Shape
from gateway.release import UNKNOWN_VERSION, installed_version

OPENAPI_VERSION = "3.1.0"
PATH = "/openapi.json"

_IN_QUERY = ("GET", "DELETE")
"""Methods whose parameters are described as those of the query; a form or a JSON object is taken by every method."""

_SECURITY: dict[str, Schema] = {
    "personalToken": {"type": "apiKey", "in": "header", "name": "PRIVATE-TOKEN"},
    "jobToken": {"type": "apiKey", "in": "header", "name": "JOB-TOKEN"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
_ALWAYS = (401, 403, 405, 429, 503)
"""Statuses of refusals that every route may have."""
_OF_LONG_HEADS = (414, 431)
"""Statuses for a request whose target or headers are too long, which is refused unread, with no document."""
_PAGE_HEADERS = ("Link", "X-Page", "X-Per-Page", "X-Prev-Page", "X-Next-Page", "X-Total", "X-Total-Pages")


class ApiDescription:
    """Handler of the description."""

    def __init__(self, routes: Sequence[Route[Any]], options: ApiOptions) -> None:
        """`routes`: those of the whole API, with that of the description, once they are all there."""
        self._routes = routes
        self._options = options
        self._document: dict[str, object] = {}

    @property
    def route(self) -> Route[NoParameters]:
        return Route("GET", PATH, self.show, NoParameters, "description", anonymous=True, jobs=True)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show this description of the API, as an OpenAPI document."""
        self._document = self._document or describe(self._routes, self._options)
        return one(self._document)


def describe(routes: Sequence[Route[Any]], options: ApiOptions) -> dict[str, object]:
    """Describe routes as an OpenAPI document."""
    schemas, paths = all_schemas(), dict[str, dict[str, object]]()
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "registry-gateway", "version": installed_version() or UNKNOWN_VERSION},
        "servers": [{"url": f"{options.url}{BASE}"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SECURITY},
    }


def _operation(route: Route[Any], schemas: dict[str, Schema]) -> dict[str, object]:
    text = inspect.getdoc(route.handler) or ""
    summary, _, more = text.partition("\n\n")
    in_path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.names]
    operation: dict[str, object] = {
        "operationId": _name_of(route),
        "summary": " ".join(summary.split()),
        "tags": [route.kind],
        "parameters": in_path,
        "security": _security(route),
        "responses": _responses(route),
    }
    if more:
        operation["description"] = " ".join(more.split())
    properties, required = _properties(route.shape, schemas)
    if not properties:
        return operation
    if route.method in _IN_QUERY:
        operation["parameters"] = [*in_path, *(_in_query(name, schema) for name, schema in properties.items())]
    else:
        body: Schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
        operation["requestBody"] = {"content": {media_type: {"schema": body} for media_type in (JSON, FORM)}}
    return operation


def _name_of(route: Route[Any]) -> str:
    """A name of its own for an operation: its method, and the words of its path."""
    words = [part.strip("{}").replace(".", "_") for part in route.parts]
    return "_".join([route.method.lower(), *words])


def _properties(shape: type[Shape], schemas: dict[str, Schema]) -> tuple[dict[str, Schema], list[str]]:
    """The schemas of the parameters of a shape, and the names of those that must be given; schemas that they refer to
    are added to the others."""
    document = shape.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(document.get("$defs", {}))
    properties: dict[str, Schema] = document.get("properties", {})
    for schema in properties.values():
        schema.pop("title", None)
    required: list[str] = document.get("required", [])
    return properties, required


def _in_query(name: str, schema: Schema) -> dict[str, object]:
    described = {key: value for key, value in schema.items() if key != "description"}
    parameter: dict[str, object] = {"name": name, "in": "query", "schema": described}
    return parameter | ({"description": schema["description"]} if "description" in schema else {})


def _security(route: Route[Any]) -> list[dict[str, list[str]]]:
    names = ["personalToken", "bearer", *(["jobToken"] if route.jobs else [])]
    return [*({name: list[str]()} for name in names), *([{}] if route.anonymous else [])]


def _responses(route: Route[Any]) -> dict[str, object]:
    success: dict[str, object] = {"description": HTTPStatus(route.status).phrase}
    if route.answer:
        success["content"] = {JSON: {"schema": reference(route.answer)}}
    if issubclass(route.shape, PageShape):
        success["headers"] = {name: {"schema": {"type": "string"}} for name in _PAGE_HEADERS}
    answered: dict[str, object] = {} if route.status >= 400 else {str(route.status): success}
    if route.preview:
        answered["200"] = {"description": "Dry run", "content": {JSON: {"schema": reference(route.preview)}}}
    has_parameters = route.shape is not NoParameters
    refusals = [*_ALWAYS, *([404] if route.names or route.refers else [])]
    refusals += [400, 413, 415] if has_parameters or route.names else []
    refusals += [409] if route.conflicts else []
    refusals += [422] if route.unique else []
    refused: dict[str, object] = {"content": {JSON: {"schema": reference(REFUSAL)}}}
    answered |= {str(status): {"description": HTTPStatus(status).phrase} for status in _OF_LONG_HEADS}
    return answered | {
        str(status): {"description": HTTPStatus(status).phrase, **refused} for status in sorted(refusals)
    }
