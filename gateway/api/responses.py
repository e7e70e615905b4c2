"""Responses of the REST API: JSON documents, and lists in pages.

A page of an offset says in its headers where it lies in the list, and how long that is, unless it is longer than is
counted. A page of a keyset begins after an entry, and costs the same wherever that is. Both link to the next page, by
the URL that clients use: they follow no other.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from starlette.responses import JSONResponse, Response

from gateway.api.options import ApiOptions
from gateway.api.routing import Call
from gateway.api.shapes import ListShape, PageShape
from gateway.db.windows import ListPart, ListWindow
from gateway.namespaces.expiry import format_moment

Document = Mapping[str, object]
T = TypeVar("T")


def one(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response with one document."""
    return JSONResponse(document, status, headers)


def accepted(headers: Mapping[str, str] | None = None) -> Response:
    """The response to what is done later: GitLab sends the number of the status as the document, too."""
    return JSONResponse(202, 202, headers)


def restorable(url: str, kept_until: datetime) -> dict[str, str]:
    """The header that tells who has deleted something until when, and how, it can be restored (RFC 7234, 5.5)."""
    return {"Warning": f'299 - "until {format_moment(kept_until)} at least, a POST of {url} restores it"'}


def no_content() -> Response:
    """The response to a deletion."""
    return Response(status_code=204)


def page_of(call: Call[Any], options: ApiOptions, rows: Sequence[T], document: Callable[[T], Document]) -> Response:
    """The response with a page of a list that is in memory as a whole."""
    parameters: ListShape = call.parameters
    begin = (parameters.page - 1) * parameters.per_page
    shown = rows[begin : begin + parameters.per_page]
    part = ListPart(shown, len(rows) > begin + parameters.per_page, len(rows))
    return JSONResponse([document(row) for row in shown], 200, _offset_headers(call, options, part))


def offset_window(parameters: PageShape, *, descending: bool = False) -> ListWindow:
    """The part of a list that is cut by an offset."""
    offset = (parameters.page - 1) * parameters.per_page
    return ListWindow(parameters.per_page, offset, None, descending, parameters.search)


def window_of(parameters: ListShape, after: str | int | None = None) -> ListWindow:
    """The part of a list that a request wants. `after`: the entry after which a page of a keyset begins."""
    descending = parameters.sort == "desc"
    if parameters.pagination is not None:
        return ListWindow(parameters.per_page, 0, after, descending, parameters.search)
    return offset_window(parameters, descending=descending)


def page(
    call: Call[Any], options: ApiOptions, part: ListPart[Any], documents: Sequence[Document], after: Mapping[str, str]
) -> Response:
    """The response with a page of a list. `after`: the parameters by which the next page of a keyset begins."""
    parameters: ListShape = call.parameters
    if parameters.pagination is None:
        return offset_page(call, options, part, documents)
    headers = {"X-Per-Page": str(parameters.per_page)}
    if part.more:
        headers["Link"] = _link(call, options, "next", {**after, "per_page": str(parameters.per_page)})
    return JSONResponse(documents, 200, headers)


def offset_page(call: Call[Any], options: ApiOptions, part: ListPart[Any], documents: Sequence[Document]) -> Response:
    """The response with a page of a list that is cut by an offset."""
    return JSONResponse(documents, 200, _offset_headers(call, options, part))


def _offset_headers(call: Call[Any], options: ApiOptions, part: ListPart[Any]) -> dict[str, str]:
    parameters: PageShape = call.parameters
    number, size = parameters.page, parameters.per_page
    headers = {
        "X-Page": str(number),
        "X-Per-Page": str(size),
        "X-Prev-Page": str(number - 1) if number > 1 else "",
        "X-Next-Page": str(number + 1) if part.more else "",
    }
    places = {"prev": number - 1 if number > 1 else 0, "next": number + 1 if part.more else 0, "first": 1}
    if part.total is not None:
        pages = max(1, -(-part.total // size))
        headers |= {"X-Total": str(part.total), "X-Total-Pages": str(pages)}
        places["last"] = pages
    links = [
        _link(call, options, relation, {"page": str(place), "per_page": str(size)})
        for relation, place in places.items()
        if place
    ]
    return headers | {"Link": ", ".join(links)}


def _link(call: Call[Any], options: ApiOptions, relation: str, changed: Mapping[str, str]) -> str:
    """A link to another page of the list that was requested, with the parameters of its query."""
    scope = call.request.scope
    path = scope["raw_path"].decode("latin-1").removesuffix("/")
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    kept = [(name, value) for name, value in query if name not in changed]
    return f'<{options.url}{path}?{urlencode([*kept, *changed.items()])}>; rel="{relation}"'
