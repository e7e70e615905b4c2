"""Parameters of a request as it carries them: in its query, and in a body that is a form or a JSON object.

A DELETE may have a body, too, as curl sends it with data. What stands in a body goes before what stands in the query.
"""

from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import Request

from cache.oci.document import parse_document
from gateway.api.errors import BodyTooLarge, ContentTypeUnsupported, ParametersInvalid, RequestRefused
from gateway.http.bodies import content_length, has_body, read_whole, refuse_encoded

BODY_LIMIT = 64 * 1024
"""Bytes of a body; the longest parameters are two regular expressions."""

DEPTH_LIMIT = 8
"""Levels of a JSON document; GitLab's deepest parameters have two."""

FIELD_LIMIT = 500

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
_ARRAY = "[]"
_QUERY_SECRETS = frozenset({"private_token", "job_token", "access_token"})


async def read_parameters(request: Request) -> dict[str, object]:
    """Read the parameters of a request. Raises ApiError, TooLarge, EncodingUnsupported."""
    query = _parse_fields(request.scope["query_string"])
    if leaked := _QUERY_SECRETS.intersection(query):
        raise RequestRefused(
            f"400 Bad Request - {min(leaked)} in a URL is kept in logs and histories: revoke that token, and send one "
            "in the header PRIVATE-TOKEN or JOB-TOKEN"
        )
    return query | await _read_body(request) if has_body(request) else query


async def _read_body(request: Request) -> dict[str, object]:
    refuse_encoded(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (FORM, JSON):
        if content_length(request) is None and not await read_whole(request, 0, "a body without a type"):
            return {}
        raise ContentTypeUnsupported(f"415 Unsupported Media Type - send parameters as {JSON} or {FORM}")
    stated = content_length(request)
    if stated is not None and stated > BODY_LIMIT:
        raise BodyTooLarge(f"413 Payload Too Large - parameters have at most {BODY_LIMIT} bytes")
    body = await read_whole(request, BODY_LIMIT, "a body of parameters")
    return _parse_json(body) if media_type == JSON else _parse_fields(body)


def _parse_json(body: bytes) -> dict[str, object]:
    """The members of a JSON object. Raises ParametersInvalid."""
    if not body.strip():
        return {}
    try:
        document = parse_document(body, DEPTH_LIMIT)
    except ValueError as error:
        raise ParametersInvalid([f"the body is invalid: {error}"]) from error
    if not isinstance(document, dict):
        raise ParametersInvalid(["the body is invalid: it must be a JSON object"])
    return document


def _parse_fields(text: bytes) -> dict[str, object]:
    """The fields of a query or a form: of several with one name the last counts, `NAME[]` is a list. Raises
    ParametersInvalid."""
    try:
        fields = parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=FIELD_LIMIT, errors="strict")
    except UnicodeDecodeError as error:
        raise ParametersInvalid(["the parameters are invalid: they are not UTF-8"]) from error
    except ValueError as error:
        raise ParametersInvalid([f"the parameters are invalid: there are more than {FIELD_LIMIT}"]) from error
    return _collect(fields)


def _collect(fields: Iterable[tuple[str, str]]) -> dict[str, object]:
    single: dict[str, object] = {}
    lists: dict[str, list[str]] = {}
    for name, value in fields:
        if name.endswith(_ARRAY):
            lists.setdefault(name.removesuffix(_ARRAY), []).append(value)
        else:
            single[name] = value
    return single | lists
