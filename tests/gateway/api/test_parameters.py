"""Parameters are read from the query, a form or JSON, for every method, within bounds."""

import json
from typing import Any

import pytest
from starlette.requests import Request

from cache.oci.errors import EncodingUnsupported, TooLarge
from gateway.api.errors import ApiError, BodyTooLarge, ContentTypeUnsupported, ParametersInvalid, RequestRefused
from gateway.api.parameters import BODY_LIMIT, DEPTH_LIMIT, FIELD_LIMIT, FORM, JSON, read_parameters
from tests.gateway.asgi import scope_of


async def read(
    query: str = "", body: bytes | None = None, media_type: str = FORM, method: str = "DELETE", **headers: str
) -> dict[str, object]:
    sent = [] if body is None else [("Content-Length", str(len(body))), ("Content-Type", media_type)]
    scope = scope_of(method, f"/api/v4/x?{query}", [*sent, *headers.items()])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    return await read_parameters(Request(scope, receive))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("query", "body", "media_type"),
    [
        ("name=a%2Bb&n=2", None, FORM),
        ("", b"name=a%2Bb&n=2", FORM),
        ("", b"name=a%2Bb&n=2", "application/x-www-form-urlencoded; charset=utf-8"),
        ("n=1", b"name=a%2Bb&n=2", FORM),
        ("n=2", b'{"name": "a+b"}', JSON),
    ],
)
async def test_parameters_come_from_query_form_and_json(
    method: str, query: str, body: bytes | None, media_type: str
) -> None:
    assert await read(query, body, media_type, method) == {"name": "a+b", "n": "2"}


async def test_values_of_json_keep_their_types() -> None:
    document = {"keep_n": 5, "enabled": True, "none": None, "list": ["a"], "hash": {"cadence": "1d"}}
    assert await read(body=json.dumps(document).encode(), media_type=JSON) == document


async def test_a_plus_in_a_form_is_a_blank() -> None:
    assert await read(body=b"name=a+b") == {"name": "a b"}


async def test_names_with_brackets_are_lists() -> None:
    assert await read("ids[]=1&ids%5B%5D=2&one=x&one=y") == {"ids": ["1", "2"], "one": "y"}


async def test_no_body_and_an_empty_one_hold_nothing() -> None:
    assert await read() == {}
    assert await read(body=b"") == {}
    assert await read(body=b" ", media_type=JSON) == {}


@pytest.mark.parametrize(
    ("query", "body", "media_type", "refusal"),
    [
        ("name=%ff", None, FORM, ParametersInvalid),
        ("&".join(f"a{n}=1" for n in range(FIELD_LIMIT + 1)), None, FORM, ParametersInvalid),
        ("", b"{", JSON, ParametersInvalid),
        ("", b"[]", JSON, ParametersInvalid),
        ("", b'{"a": NaN}', JSON, ParametersInvalid),
        ("", b'{"a": 1, "a": 2}', JSON, ParametersInvalid),
        ("", b"\xff\xfe{\0}\0", JSON, ParametersInvalid),
        ("", b'{"a": ' + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT + b"}", JSON, ParametersInvalid),
        ("", b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", JSON, ParametersInvalid),
        ("", b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", JSON, ParametersInvalid),
        ("", b"a" * (BODY_LIMIT + 1), FORM, BodyTooLarge),
        ("", b"<a/>", "application/xml", ContentTypeUnsupported),
        ("", b"--x", "multipart/form-data; boundary=x", ContentTypeUnsupported),
        ("private_token=x", None, FORM, RequestRefused),
        ("job_token=x", None, FORM, RequestRefused),
    ],
)
async def test_what_cannot_be_read_is_refused(
    query: str, body: bytes | None, media_type: str, refusal: type[ApiError]
) -> None:
    with pytest.raises(refusal):
        await read(query, body, media_type)


async def test_the_deepest_json_is_read() -> None:
    body = b'{"a": ' + b"[" * (DEPTH_LIMIT - 1) + b"]" * (DEPTH_LIMIT - 1) + b"}"
    assert "a" in await read(body=body, media_type=JSON)


async def test_a_body_of_unknown_length_is_read_up_to_the_limit() -> None:
    async def send(size: int) -> dict[str, object]:
        scope = scope_of("PUT", "/api/v4/x", [("Transfer-Encoding", "chunked"), ("Content-Type", FORM)])

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"a=" + b"b" * size, "more_body": False}

        return await read_parameters(Request(scope, receive))

    assert await send(1) == {"a": "b"}
    with pytest.raises(TooLarge):
        await send(BODY_LIMIT)


async def test_an_encoded_body_is_refused() -> None:
    with pytest.raises(EncodingUnsupported):
        await read(body=b"x", **{"Content-Encoding": "gzip"})


async def test_a_refusal_repeats_no_secret() -> None:
    with pytest.raises(RequestRefused) as refused:
        await read("private_token=rgpat-secret")
    assert "rgpat" not in refused.value.message
