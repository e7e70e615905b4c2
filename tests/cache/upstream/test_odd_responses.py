"""Responses that no registry should send: whatever arrives, only UpstreamError leaves cache.upstream.

The cases are drawn with fixed seeds, so that a failure can be repeated.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from cache.oci.digest import Digest
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from cache.upstream.allowance import parse_stated_limit, retry_after
from cache.upstream.egress import Egress
from cache.upstream.errors import Corrupt, Unavailable, UpstreamError
from cache.upstream.probe import parse_date
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.registry_client import RegistryClient
from cache.upstream.statements import speaks_for_registry
from cache.upstream.tokens import Tokens, parse_challenges
from cache.upstream.urls import origin_of, redirect_target
from cache.values import Part, Rest, Source
from tests.cache.samples import APP, LATEST, blob_of, manifest_of
from tests.parts import lies
from tests.parts.liar import Liar
from tests.parts.lies import Lie

CONTENT, BLOB = blob_of(1_000)
MANIFEST = manifest_of("one")
QUICK = UpstreamTimings(connect=5.0, read=0.2, body=0.2, progress=0.2)

LOCATIONS = [
    *("", "http://ex\xe4mple/", "http://user@host.example/", "http://host.example:99999/", "http://host.example:-1/"),
    *(
        "javascript:alert(1)",
        "http://[::1",
        "http://[v1.a]/",
        "http://[::1]x/",
        "//",
        "http:///",
        "http:",
        "\x01",
        "/\xff",
    ),
    *("http://" + "a" * 300 + ".example/", "http://.../", 'http://h"st/', "http://xn--/", "/" + "x" * 70_000),
]
NUMBERS = ["", "-1", "0", "+5", "5.5", "1e9", "NaN", "9" * 18, "9" * 400, "0x10", "\xb2", "5, 6", "bytes"]
DATES = ["Thu, 99 Foo 99999 25:61:61 +9999", "Thu, 01 Jan 1970 00:00:00", "1 1 1 1:1 -", "0 Jan 0 ::", "Z" * 500]
HEADERS = {
    "Location": LOCATIONS,
    "Retry-After": [*NUMBERS, *DATES],
    "Date": [*NUMBERS, *DATES],
    "RateLimit-Limit": [*NUMBERS, "100;w=", "100;w=-1", "0;w=0", "100;w=" + "9" * 40],
    "RateLimit-Remaining": [*NUMBERS, "0;w=0", "-5;w=5", "5" * 9 + ";w=1"],
    "Docker-RateLimit-Source": ["\xe4", "x" * 1_000, "a b", ""],
    "Link": ['<>; rel="next"', "rel=next", "<\xff", '<http://[::1>; rel="next"', "<" * 5_000],
    "WWW-Authenticate": [
        *("Bearer", 'Bearer realm=""', 'Bearer realm="http://[::1"', 'Bearer realm="http://ex\xe4mple/"', "=" * 500),
        *(
            'Bearer realm="REALM"',
            'Bearer realm="REALM",service="\xff\xfe"',
            'Bearer realm="REALM?a=b"',
            'Basic realm="',
        ),
    ],
    "Content-Type": [OCI_MANIFEST, OCI_INDEX, "application/json", "text/html", "", "\xff/\xfe", ";", "a" * 500],
    "Content-Range": [
        "bytes 0-9/1000",
        "bytes 9-0/5",
        "bytes */*",
        "bytes 0-" + "9" * 400 + "/1",
        "items 0-9/10",
        "\xff",
    ],
    "Docker-Content-Digest": ["", "sha256:", "sha256:" + "G" * 64, "md5:" + "0" * 32, "\xe4", str(BLOB)],
    "Content-Length": ["0", "5", "2000", "-1", "1, 2", "\xb2", "9" * 30],
    "Set-Cookie": ["=", ";;;", "a=b; expires=" + "9" * 50, "\xff=\xfe; domain=.;"],
    "Content-Encoding": ["gzip", "br", "\xff"],
    "OCI-Filters-Applied": ["artifactType", "\xff", ""],
}
STATUSES = [
    200,
    200,
    200,
    204,
    206,
    301,
    302,
    303,
    304,
    307,
    308,
    400,
    401,
    403,
    404,
    410,
    416,
    418,
    429,
    500,
    503,
    599,
]
VALUES: list[object] = [None, 0, -1, 1.5, 10**30, True, "", "text", "\ud800", [], [None], {}, {"a": {}}, [[[]]]]
ENTRY = {"mediaType": OCI_MANIFEST, "digest": str(BLOB), "size": 5}
KEYS = ("tags", "manifests", "errors", "token", "expires_in", "mediaType", "schemaVersion", "config", "layers")


def only_this_machine(host: str, port: int) -> list[str]:
    """Resolve the address of the liar only, so that no request leaves this machine."""
    return [host] if host == "127.0.0.1" else []


@asynccontextmanager
async def connected(liar: Liar) -> AsyncIterator[RegistryClient]:
    """A client with short time limits."""
    origin = origin_of(liar.url)
    egress = Egress(Reach(private_addresses=True, timings=QUICK), only_this_machine)
    yield RegistryClient(Source(origin), liar.url, egress, Tokens(origin, frozenset(), lambda: None))
    await egress.close()


def drawn_document(draw: random.Random) -> bytes:
    """A body: JSON of any shape, sometimes cut, or no JSON at all."""
    value: object = {key: draw.choice([*VALUES, ENTRY, [ENTRY], [ENTRY, 5]]) for key in draw.sample(KEYS, 4)}
    if draw.random() < 0.2:
        value = draw.choice(VALUES)
    body = json.dumps(value).encode()
    match draw.randrange(8):
        case 0:
            return body[: draw.randrange(len(body) + 1)]
        case 1:
            return draw.randbytes(200)
        case 2:
            depth = draw.choice([100, 900, 5_000, 100_000])
            return b'{"tags":' * depth + b"[]" + b"}" * depth
        case 3:
            return b'{"tags":' + b"1" * 5_000 + b"}"
        case _:
            return body


def drawn_lie(draw: random.Random, realm: str) -> Lie:
    names = draw.sample(sorted(HEADERS), draw.randint(1, 4))
    headers: dict[str, str | None] = {name: draw.choice(HEADERS[name]).replace("REALM", realm) for name in names}
    status = draw.choice(STATUSES)
    if "Location" in headers and draw.random() < 0.7:
        status = draw.choice([301, 302, 307])
    if "WWW-Authenticate" in headers and draw.random() < 0.7:
        status = 401
    return Lie(status=status, headers=headers, body=drawn_document(draw) if draw.random() < 0.7 else None)


def requests(client: RegistryClient) -> list[Callable[[], Awaitable[object]]]:
    """Every request of a client, some of them as a thread sends them."""

    def download(part: Part | Rest | None) -> Callable[[], Awaitable[object]]:
        def receive() -> None:
            with client.open_blob(APP, BLOB, part) as stream:
                while stream.receive_into(memoryview(bytearray(4_096))):
                    pass

        return lambda: asyncio.to_thread(receive)

    return [
        lambda: client.head_manifest(APP, LATEST),
        lambda: client.head_manifest(APP, MANIFEST.descriptor.digest),
        lambda: client.get_manifest(APP, LATEST),
        lambda: client.get_manifest(APP, MANIFEST.descriptor.digest),
        lambda: client.head_blob(APP, BLOB),
        lambda: client.tags(APP, "n=5&last=a"),
        lambda: client.referrers(APP, BLOB, "text/plain"),
        lambda: client.probe().ping(),
        lambda: client.probe().head(APP, LATEST, None),
        download(None),
        download(Part(0, 10, len(CONTENT))),
        download(Rest(5, None)),
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_only_errors_of_upstreams_come_of_what_an_upstream_sends(seed: int, liar: Liar) -> None:
    draw = random.Random(seed)
    liar.offer_blob(CONTENT)
    liar.offer_manifest("latest", OCI_MANIFEST, MANIFEST.raw)
    for place in range(36):
        liar.honest()
        liar.behave("/token", Lie(status=200, body=drawn_document(draw)))
        liar.behave("/v2/", drawn_lie(draw, f"{liar.url}/token"))
        async with connected(liar) as client:
            with suppress(UpstreamError):
                await requests(client)[place % 12]()


def drawn_texts(seed: int) -> list[str]:
    draw = random.Random(seed)
    known = [text for texts in HEADERS.values() for text in texts if len(text) < 5_000]
    texts = list(known)
    for _ in range(3_000):
        text = list(draw.choice(known) or " ")
        for _ in range(draw.randint(1, 4)):
            text[draw.randrange(len(text))] = draw.choice(["", chr(draw.randrange(256)), ",", '"', ";", "0", "\u0663"])
        texts.append("".join(text))
    return texts


def test_no_header_raises_anything_but_what_its_parser_names() -> None:
    for text in drawn_texts(1):
        headers = {"retry-after": text, "ratelimit-limit": text, "ratelimit-remaining": text}
        seconds = retry_after(headers)
        assert seconds is None or 0 <= seconds <= 24 * 3600
        parse_stated_limit(headers | {"docker-ratelimit-source": text})
        parse_challenges(text)
        parse_date(text)
        speaks_for_registry(404, {}, text.encode(), own=True)
        with suppress(ValueError):
            assert origin_of(redirect_target("http://registry.example/v2/", text)).host.isascii()


@pytest.mark.parametrize(
    "location", [location for location in LOCATIONS if location not in ("//", "http:", "http:///")]
)
async def test_a_location_that_is_none_is_unavailable(location: str, liar: Liar) -> None:
    liar.behave("/manifests/", lies.redirected(location))
    async with connected(liar) as client:
        with pytest.raises(Unavailable):
            await client.get_manifest(APP, LATEST)
    assert liar.requests.count() == 1


@pytest.mark.parametrize("value", ["{}", '{"mediaType": 5}', "0", '""', "false", "5", '"text"', json.dumps(ENTRY)])
@pytest.mark.parametrize("key", ["tags", "manifests"])
async def test_a_list_of_another_json_type_is_corrupt(key: str, value: str, liar: Liar) -> None:
    liar.behave("/v2/", lies.answered(200, f'{{"{key}": {value}}}'.encode()))
    async with connected(liar) as client:
        with pytest.raises(Corrupt):
            await (client.tags(APP) if key == "tags" else client.referrers(APP, Digest.of(b""), None))


async def test_a_blob_without_a_body_that_states_a_length_is_an_empty_stream(liar: Liar) -> None:
    liar.behave("/blobs/", Lie(status=204, headers={"Content-Length": "5"}))
    async with connected(liar) as client:
        await asyncio.to_thread(receive, client)


def receive(client: RegistryClient) -> None:
    with client.open_blob(APP, BLOB) as stream:
        assert stream.receive_into(memoryview(bytearray(10))) == 0
