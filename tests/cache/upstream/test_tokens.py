"""Challenges, and the dance for tokens."""

import asyncio
import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.upstream.document_room import DocumentRoom
from cache.upstream.egress import UNWATCHED
from cache.upstream.errors import AccessDenied, CredentialRefused, RateLimited, Unavailable, UpstreamError
from cache.upstream.flow import Drop, Flow, Open, Read, Wait, carry_out, carry_out_blocking
from cache.upstream.guests import SCOPE_LIMIT, Guests
from cache.upstream.reach import UpstreamTimings
from cache.upstream.tokens import TOKENS_KEPT, Challenge, Credential, Tokens, parse_challenges
from cache.values import Origin
from tests.cache.samples import resident_bytes

# Challenges.

REALM = "https://auth.example/token"
TABLE: list[tuple[str, list[tuple[str, dict[str, str]]]]] = [
    ("", []),
    ("Basic", [("basic", {})]),
    ('Basic realm="Registry"', [("basic", {"realm": "Registry"})]),
    (
        f'Bearer realm="{REALM}",service="registry.docker.io",scope="repository:a/b:pull"',
        [("bearer", {"realm": REALM, "service": "registry.docker.io", "scope": "repository:a/b:pull"})],
    ),
    ('BEARER Realm="a" , SERVICE = b', [("bearer", {"realm": "a", "service": "b"})]),
    ('Bearer realm="a\\"b\\\\c"', [("bearer", {"realm": 'a"b\\c'})]),
    ('Bearer realm="a, Basic realm=b"', [("bearer", {"realm": "a, Basic realm=b"})]),
    ('Bearer realm=""', [("bearer", {"realm": ""})]),
    ('Basic realm="a", Bearer realm="b"', [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
    ("Negotiate, Basic", [("negotiate", {}), ("basic", {})]),
    ('Negotiate YIIB==, Bearer realm="b"', [("negotiate", {}), ("bearer", {"realm": "b"})]),
    (', ,Bearer realm="a",,service="b",', [("bearer", {"realm": "a", "service": "b"})]),
    ('Bearer realm="first", realm="second"', [("bearer", {"realm": "first"})]),
    ('Bearer realm="open', []),
    ('Bearer realm="a", service="open', [("bearer", {"realm": "a"})]),
    ('realm="a"', []),
    ("Bearer realm=a b=c", []),
    ("Bearer realm=https://a/", []),
    ('Bearer realm="a"x', []),
    ("=", []),
    ('"Bearer"', []),
]


@pytest.mark.parametrize(("header", "expected"), TABLE)
def test_challenges_are_read_as_they_are_written(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == [Challenge(scheme, parameters) for scheme, parameters in expected]


TOKEN_CHARACTERS = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def is_token(text: str) -> bool:
    return bool(text) and set(text) <= TOKEN_CHARACTERS


def is_token68(text: str) -> bool:
    bare = text.rstrip("=")
    return bool(bare) and all(
        character.isascii() and (character.isalnum() or character in "-._~+/") for character in bare
    )


def split_at_commas(header: str) -> list[str]:
    """Only at those that stand in no quotes."""
    elements, quoted, escaped = [""], False, False
    for character in header:
        if character == "," and not quoted:
            elements.append("")
            continue
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elements[-1] += character
    return elements


def unquote(text: str) -> str | None:
    """The value of a parameter, or None where it is none."""
    if is_token(text):
        return text
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return None
    value, rest = "", list(text[1:-1])
    while rest:
        character = rest.pop(0)
        if character == '"' or (character == "\\" and not rest):
            return None
        value += rest.pop(0) if character == "\\" else character
    return value


def slow_challenges(header: str) -> list[Challenge]:
    """Grammar of RFC 9110: a list of elements, each a parameter, a scheme, or a scheme and its first parameter."""
    found: list[tuple[str, dict[str, str]]] = []
    for element in (element.strip() for element in split_at_commas(header)):
        if not element:
            continue
        name, equals, value = (part.strip() for part in element.partition("="))
        scheme, names = None, re.split(r"[ \t]+", name)
        if len(names) == 2:
            scheme, name = names
        text = unquote(value)
        if equals and text is not None and is_token(name) and (scheme is None or is_token(scheme)):
            if scheme is not None:
                found.append((scheme.lower(), {}))
            if not found:
                return []
            found[-1][1].setdefault(name.lower(), text)
            continue
        words = re.split(r"[ \t]+", element)
        if is_token(words[0]) and (len(words) == 1 or (len(words) == 2 and is_token68(words[1]))):
            found.append((words[0].lower(), {}))
            continue
        break
    return [Challenge(scheme, parameters) for scheme, parameters in found]


PIECES = [
    "a",
    "B",
    " ",
    "  ",
    "\t",
    "=",
    "==",
    ",",
    '"',
    '"x"',
    '"a,b"',
    "\\",
    '\\"',
    "/",
    "Bearer ",
    "realm=",
    'realm="x"',
]


@settings(deadline=None)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.text(max_size=30)))
@example("a b==,c=d")
@example('a b="\\')
@example("a  b \t=  c")
def test_any_header_is_read_as_by_the_slow_reader(header: str) -> None:
    assert parse_challenges(header) == slow_challenges(header)


VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)
NAMES = st.text("abcXYZ09-_.", min_size=1, max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES.map(str.lower), VALUES, max_size=4)), max_size=4))
def test_what_was_written_by_the_book_is_read_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in parameters.items())}".strip()
        for scheme, parameters in challenges
    )
    assert parse_challenges(header) == [Challenge(scheme.lower(), parameters) for scheme, parameters in challenges]


def test_a_long_senseless_header_is_read_in_no_time() -> None:
    for header in (
        "a " * 50_000,
        "a" * 100_000,
        "," * 100_000,
        'a="' + "\\" * 99_999,
        "a=b," * 25_000,
        "a" + " " * 100_000,
    ):
        parse_challenges(header)


# Tokens.

OWN = Origin("https", "registry.example", 443)
ALICE = Credential("alice", "secret")
SCOPE = "repository:acme/app:pull"


def bearer(realm: str = REALM, **parameters: str) -> str:
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in {"realm": realm, **parameters}.items())


def answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, headers=dict(headers or {}), stream=httpx2.ByteStream(body))


def granting(token: object = "t0k", status: int = 200, headers: Mapping[str, str] | None = None, **more: object) -> Any:
    return lambda: answer(status, json.dumps({"token": token} | more).encode(), headers)


class Service:
    """A token service that hands out what `answer` makes; it speaks to both drivers of flows."""

    traffic, documents = UNWATCHED, DocumentRoom()
    timings = UpstreamTimings()

    def __init__(self, answer: Callable[[], httpx2.Response] | None = None) -> None:
        self.asked: list[Open] = []
        self.answer = answer or self.next_token
        self.lock = threading.Lock()
        self.opened = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def next_token(self) -> httpx2.Response:
        response: httpx2.Response = granting(f"t{len(self.asked)}", expires_in=300)()
        return response

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], image: str = "", *, redirected: bool = False
    ) -> httpx2.Response:
        return await asyncio.to_thread(self.send_blocking, method, url, headers)

    def send_blocking(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        image: str = "",
        *,
        redirected: bool = False,
        brief: bool = False,
    ) -> httpx2.Response:
        with self.lock:
            self.asked.append(Open(method, url, headers))
        self.opened.set()
        self.gate.wait(30)
        response = self.answer()
        response.request = httpx2.Request(method, url)
        return response


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_tokens(
    credential: Credential | None = None,
    hosts: frozenset[str] = frozenset({"auth.example"}),
    origin: Origin = OWN,
    clock: Callable[[], float] | None = None,
) -> Tokens:
    return Tokens(origin, hosts, lambda: credential, clock or Clock())


def run(flow: Flow[Any], service: Service) -> Any:
    return carry_out_blocking(flow, service)  # type: ignore[arg-type]


def test_before_a_challenge_nothing_is_sent_and_nobody_asked() -> None:
    service = Service()
    assert run(make_tokens(ALICE).authorization(SCOPE), service) is None
    assert service.asked == []


def test_a_token_is_asked_for_by_service_and_scope() -> None:
    service = Service()
    challenge = bearer(service="registry.docker.io", scope="something else")
    assert run(make_tokens().renewed(SCOPE, None, challenge), service) == "Bearer t1"
    [asked] = service.asked
    assert asked.method == "GET"
    assert asked.url == f"{REALM}?service=registry.docker.io&scope=repository%3Aacme%2Fapp%3Apull"
    assert "Authorization" not in asked.headers


class Printed:
    """A credential whose password a command prints: another one after each refusal."""

    def __init__(self) -> None:
        self.number = 1

    def __call__(self) -> Credential:
        return Credential("AWS", f"password {self.number}")

    def refused(self, credential: Credential) -> None:
        assert credential == self()
        self.number += 1


def printed_tokens() -> tuple[Printed, Tokens]:
    printed = Printed()
    return printed, Tokens(OWN, frozenset({"auth.example"}), printed, Clock(), refused=printed.refused)


def test_a_printed_password_that_is_refused_is_replaced_at_once() -> None:
    printed, tokens = printed_tokens()
    first = run(tokens.renewed(SCOPE, None, 'Basic realm="x"'), Service())
    assert first == printed().basic()
    second = run(tokens.renewed(SCOPE, first, 'Basic realm="x"'), Service())
    assert (second, printed.number) == (Credential("AWS", "password 2").basic(), 2)


def test_a_printed_password_that_a_token_service_refuses_is_replaced_for_the_next_request() -> None:
    printed, tokens = printed_tokens()
    with pytest.raises(Unavailable, match="to user AWS"):
        run(tokens.renewed(SCOPE, None, bearer()), Service(granting(status=401)))
    assert printed.number == 2
    service = Service()
    assert run(tokens.renewed(SCOPE, None, bearer()), service) == "Bearer t1"
    assert service.asked[0].headers["Authorization"] == printed().basic()


@pytest.mark.parametrize("query", ["?a=b", "?"])
def test_a_realm_keeps_its_own_query(query: str) -> None:
    service = Service()
    run(make_tokens().renewed(SCOPE, None, bearer(REALM + query)), service)
    assert service.asked[0].url == f"{REALM}{query}&scope=repository%3Aacme%2Fapp%3Apull"


def test_the_credential_goes_to_the_token_service_and_not_into_the_answer() -> None:
    service = Service()
    assert run(make_tokens(ALICE).renewed(SCOPE, None, bearer()), service) == "Bearer t1"
    assert service.asked[0].headers["Authorization"] == "Basic " + base64.b64encode(b"alice:secret").decode()


def test_a_credential_shows_no_password() -> None:
    assert "secret" not in repr(ALICE)


def test_a_token_is_kept_by_scope() -> None:
    tokens, service = make_tokens(), Service()
    run(tokens.renewed(SCOPE, None, bearer()), service)
    assert run(tokens.authorization(SCOPE), service) == "Bearer t1"
    assert run(tokens.authorization("repository:acme/web:pull"), service) == "Bearer t2"
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("life", "good_for"),
    [
        (300, 290),
        (60, 50),
        (15, 7.5),
        (1, 0.5),
        (299.5, 289.5),
        (None, 60),
        (0, 60),
        (-5, 60),
        ("300", 60),
        ("soon", 60),
        ([], 60),
        (24 * 3600, 3590),
        (10**19, 3590),
        (1e300, 3590),
    ],
)
def test_a_token_is_renewed_before_it_expires(life: object, good_for: float) -> None:
    clock, service = Clock(), Service(granting("t", expires_in=life))
    tokens = make_tokens(clock=clock)
    run(tokens.renewed(SCOPE, None, bearer()), service)
    clock.now += good_for - 0.1
    run(tokens.authorization(SCOPE), service)
    assert len(service.asked) == 1
    clock.now += 0.1
    run(tokens.authorization(SCOPE), service)
    assert len(service.asked) == 2


def test_invented_names_fill_no_memory() -> None:
    tokens, token = make_tokens(), "x" * 13_000
    run(tokens.renewed(SCOPE, None, bearer()), Service())
    tokens_of_names = (f"repository:acme/{number}:pull" for number in range(5_000))
    before = resident_bytes()
    for scope in tokens_of_names:
        assert run(tokens.authorization(scope), Service(granting(token))) == f"Bearer {token}"
    assert resident_bytes() - before < 32 * 1024 * 1024


def test_of_many_tokens_those_that_are_used_are_kept() -> None:
    tokens, service = make_tokens(), Service()
    used = run(tokens.renewed(SCOPE, None, bearer()), service)
    for number in range(TOKENS_KEPT):
        run(tokens.authorization(f"repository:acme/{number}:pull"), service)
        assert run(tokens.authorization(SCOPE), service) == used
    assert len(service.asked) == 1 + TOKENS_KEPT


def test_a_refused_token_is_renewed_once_for_all_who_were_refused() -> None:
    tokens, service = make_tokens(), Service()
    first = run(tokens.renewed(SCOPE, None, bearer()), service)
    assert run(tokens.renewed(SCOPE, first, bearer()), service) == "Bearer t2"
    assert run(tokens.renewed(SCOPE, first, bearer()), service) == "Bearer t2"
    assert len(service.asked) == 2


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_a_token_may_have_either_name(name: str) -> None:
    service = Service(lambda: answer(200, json.dumps({name: "t"}).encode()))
    assert run(make_tokens().renewed(SCOPE, None, bearer()), service) == "Bearer t"


@pytest.mark.parametrize("header", ["", "Negotiate", "Digest realm=x", "garbage ="])
def test_a_challenge_that_nobody_can_meet_leaves_nothing_to_send(header: str) -> None:
    service = Service()
    assert run(make_tokens(ALICE).renewed(SCOPE, None, header), service) is None
    assert service.asked == []


def test_basic_is_met_with_the_credential_once() -> None:
    tokens, service = make_tokens(ALICE), Service()
    header = run(tokens.renewed(SCOPE, None, 'Basic realm="x"'), service)
    assert header == ALICE.basic()
    assert run(tokens.authorization(SCOPE), service) == header
    assert run(tokens.renewed(SCOPE, header, 'Basic realm="x"'), service) is None
    assert service.asked == []


def test_basic_without_a_credential_leaves_nothing_to_send() -> None:
    assert run(make_tokens().renewed(SCOPE, None, 'Basic realm="x"'), Service()) is None


def test_of_several_challenges_bearer_is_taken() -> None:
    service = Service()
    assert run(make_tokens(ALICE).renewed(SCOPE, None, f'Basic realm="x", {bearer()}'), service) == "Bearer t1"


# Realms: where a credential may go.


@pytest.mark.parametrize(
    ("realm", "hosts"),
    [
        ("https://registry.example/token", set()),
        ("https://registry.example:443/token", set()),
        ("HTTPS://REGISTRY.EXAMPLE/token", set()),
        ("https://auth.example/token", {"auth.example"}),
        ("https://auth.example:443/token", {"auth.example"}),
        ("https://auth.example/token", {"auth.example:443"}),
        ("https://auth.example:8443/token", {"auth.example:8443"}),
        ("https://10.0.0.7/token", {"10.0.0.7"}),
    ],
)
def test_the_own_origin_and_named_hosts_may_give_tokens(realm: str, hosts: set[str]) -> None:
    service = Service()
    assert run(make_tokens(ALICE, frozenset(hosts)).renewed(SCOPE, None, bearer(realm)), service) == "Bearer t1"


FOREIGN = {
    "another host": "https://evil.example/token",
    "a sibling of the same domain": "https://auth.registry.example/token",
    "the parent domain": "https://example/token",
    "a host that ends like it": "https://evilregistry.example/token",
    "a host that begins like it": "https://registry.example.evil/token",
    "a literal address": "https://93.184.216.34/token",
    "the metadata service": "http://169.254.169.254/latest/meta-data",
    "loopback by name": "https://localhost/token",
    "loopback": "https://[::1]/token",
    "the real host as a user's name": "https://registry.example@evil.example/token",
    "the real host as user and password": "https://registry.example:443@evil.example/token",
    "a user's name at the real host": "https://user@registry.example/token",
    "an empty user's name": "https://@registry.example/token",
    "a backslash": "https://evil.example\\@registry.example/token",
    "a backslash the other way": "https://evil.example\\.registry.example/token",
    "another port": "https://registry.example:8443/token",
    "port 0": "https://registry.example:0/token",
    "another port of a named host": "https://auth.example:8443/token",
    "less than https": "http://registry.example/token",
    "less than https at a named host": "http://auth.example/token",
    "less than https at the port of https": "http://registry.example:443/token",
    "a fragment": "https://registry.example/token#",
    "a fragment that hides a host": "https://evil.example#@registry.example/token",
    "a query that hides a host": "https://evil.example?@registry.example/token",
    "a trailing dot": "https://registry.example./token",
    "a percent sign": "https://registry%2eexample/token",
    "a tab in the name": "https://registry.example\t.evil.example/token",
    "no host": "https:///token",
    "no scheme": "registry.example/token",
    "a path": "/token",
    "a file": "file:///etc/passwd",
    "nothing": "",
    "a port that is none": "https://registry.example:x/token",
    "brackets": "https://[::1/token",
}


ELSEWHERE = {
    *("another host", "a sibling of the same domain", "the parent domain", "a literal address", "loopback"),
    *("a host that ends like it", "a host that begins like it", "loopback by name", "a query that hides a host"),
    *("another port", "port 0", "another port of a named host", "a trailing dot", "a backslash the other way"),
}
"""Realms that are right but for their host, whose addresses are checked when it is connected to."""


@pytest.mark.parametrize("realm", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_realm_sees_neither_credential_nor_request(realm: str) -> None:
    service = Service()
    with pytest.raises(Unavailable):
        run(make_tokens(ALICE).renewed(SCOPE, None, bearer(realm)), service)
    assert service.asked == []


@pytest.mark.parametrize("name", FOREIGN)
def test_an_anonymous_token_comes_from_any_host_with_tls(name: str) -> None:
    service, flow = Service(), make_tokens().renewed(SCOPE, None, bearer(FOREIGN[name]))
    if name in ELSEWHERE:
        assert run(flow, service) == "Bearer t1"
        assert ["Authorization" in asked.headers for asked in service.asked] == [False]
    else:
        with pytest.raises(Unavailable):
            run(flow, service)
        assert service.asked == []


@pytest.mark.parametrize(("length", "expected"), [(SCOPE_LIMIT, "Bearer t1"), (SCOPE_LIMIT + 1, None)])
def test_no_token_is_kept_for_a_scope_of_any_length(length: int, expected: str | None) -> None:
    """The target of a redirect names the scope, and could name another one each time."""
    challenge = f'Bearer realm="https://auth.example/token",scope="{"x" * length}"'
    refusal, service = httpx2.Response(401, headers={"WWW-Authenticate": challenge}), Service()
    url = "https://target.example/v2/any/manifests/latest"
    assert run(Guests(make_tokens()).authorization(url, refusal, None), service) == expected
    assert len(service.asked) == (expected is not None)


def test_an_upstream_without_tls_may_name_either_kind_of_token_service() -> None:
    for realm in ("http://auth.example/token", "https://auth.example/token"):
        tokens = make_tokens(ALICE, origin=Origin("http", "registry.example", 80))
        assert run(tokens.renewed(SCOPE, None, bearer(realm)), Service()) == "Bearer t1"


# Bad answers.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"t"',
        b"null",
        b"{}",
        b'{"token": ""}',
        b'{"token": null}',
        b'{"token": 7}',
        b'{"token": ["t"]}',
        b'{"token": "a b"}',
        b'{"token": "a\\r\\nX-Header: 1"}',
        b'{"token": "a\\u0000"}',
        b'{"token": "\\u00fc"}',
        b'{"token": "' + b"a" * 20_000 + b'"}',
        b'{"token": "t", "padding": "' + b"a" * 300_000 + b'"}',
        b"[" * 200_000,
        b"\xff\xfe",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_an_answer_without_a_usable_token_is_an_outage(body: bytes) -> None:
    tokens, service = make_tokens(ALICE), Service(lambda: answer(200, body))
    with pytest.raises(Unavailable, match=r"auth\.example sent a response without a token"):
        run(tokens.renewed(SCOPE, None, bearer()), service)
    service.answer = service.next_token
    assert run(tokens.renewed(SCOPE, None, bearer()), service) == "Bearer t2"


@pytest.mark.parametrize(
    ("status", "credential", "expected"),
    [
        (401, ALICE, CredentialRefused),
        (403, ALICE, CredentialRefused),
        (401, None, AccessDenied),
        (403, None, AccessDenied),
        (400, None, Unavailable),
        (404, None, Unavailable),
        (307, ALICE, Unavailable),
        (429, ALICE, RateLimited),
        (500, None, Unavailable),
        (503, ALICE, Unavailable),
    ],
)
def test_what_a_token_service_refuses_is_named(
    status: int, credential: Credential | None, expected: type[UpstreamError]
) -> None:
    service = Service(granting(status=status, headers={"Retry-After": "17", "Location": "https://evil.example/"}))
    with pytest.raises(UpstreamError) as caught:
        run(make_tokens(credential).renewed(SCOPE, None, bearer()), service)
    assert type(caught.value) is expected
    assert "secret" not in caught.value.reason
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 17
    assert ["scope=" in step.url for step in service.asked][1:] == [False] * (expected is CredentialRefused)


# Redirects, and what a refusal says.

REDIRECTED_HOSTS = frozenset({"auth.example", "new.example"})


def redirecting(*locations: str, status: int = 307) -> Callable[[], httpx2.Response]:
    """Redirects to one location after the other; then a token."""
    left = list(locations)
    return lambda: answer(status, b"", {"Location": left.pop(0)}) if left else granting("t")()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_at_the_same_host_carries_the_credential(status: int) -> None:
    service = Service(redirecting("/v2/token?scope=x", status=status))
    assert run(make_tokens(ALICE).renewed(SCOPE, None, bearer()), service) == "Bearer t"
    assert [step.url for step in service.asked][1] == "https://auth.example/v2/token?scope=x"
    assert {step.headers["Authorization"] for step in service.asked} == {ALICE.basic()}


def test_a_redirect_to_another_host_carries_no_credential_even_where_it_is_known() -> None:
    service = Service(redirecting("https://new.example/token", "https://auth.example/token"))
    tokens = make_tokens(ALICE, REDIRECTED_HOSTS)
    assert run(tokens.renewed(SCOPE, None, bearer()), service) == "Bearer t"
    assert ["Authorization" in step.headers for step in service.asked] == [True, False, False]


HARMLESS = ("https://registry.example/token#", "https:///token")
"""Locations that, joined, lead to a host that may have the credential."""


@pytest.mark.parametrize(
    "realm", [realm for realm in FOREIGN.values() if ":" in realm and realm not in HARMLESS], ids=repr
)
def test_a_redirect_is_checked_as_a_realm_is(realm: str) -> None:
    service = Service(redirecting(realm))
    with pytest.raises(Unavailable):
        run(make_tokens(ALICE).renewed(SCOPE, None, bearer()), service)
    assert len(service.asked) == 1


def test_a_redirect_whose_host_repeats_the_credential_is_not_followed_or_named() -> None:
    secret = ALICE.basic().partition(" ")[2]
    service = Service(redirecting(f"https://{secret}.evil.example/"))
    with pytest.raises(Unavailable) as caught:
        run(make_tokens(ALICE).renewed(SCOPE, None, bearer()), service)
    assert secret.lower() not in caught.value.reason.lower()
    assert len(service.asked) == 1


def test_redirects_of_a_token_service_come_to_an_end() -> None:
    service = Service(lambda: answer(307, b"", {"Location": "/token"}))
    with pytest.raises(Unavailable, match="more than 5 times"):
        run(make_tokens().renewed(SCOPE, None, bearer()), service)
    assert len(service.asked) == 6


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_any_success_brings_a_token_and_identity_is_requested(status: int) -> None:
    service = Service(granting("t", status=status))
    assert run(make_tokens().renewed(SCOPE, None, bearer()), service) == "Bearer t"
    assert service.asked[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"errors":[{"code":"DENIED","message":"denied"}]}', ": denied"),
        (b'{"details":"incorrect username or password"}', ": incorrect username or password"),
        (b'{"errors":[{"code":"UNAUTHORIZED","message":"","detail":null}]}', ": UNAUTHORIZED"),
        (b'{"error":"invalid_grant","error_description":"expired pull token"}', ": expired pull token"),
        (b"Too Many\r\n Logins\x00", ": Too Many Logins?"),
        (b"<html><body>no</body></html>", ""),
        (b'{"errors":[[]]}', ""),
        (b"{" * 50_000, ""),
        (b"", ""),
        (b'{"message":"the password secret is wrong"}', ""),
        (b'{"message":"Basic YWxpY2U6c2VjcmV0 is wrong"}', ""),
        (b"%73ecret is wrong", ""),
    ],
    ids=lambda value: repr(value[:30]),
)
@pytest.mark.parametrize("status", [400, 401, 403, 503])
def test_the_error_says_what_the_refusal_says_but_never_the_credential(status: int, body: bytes, text: str) -> None:
    service = Service(lambda: answer(status, body))
    with pytest.raises(Unavailable) as caught:
        run(make_tokens(ALICE).renewed(SCOPE, None, bearer()), service)
    assert caught.value.reason == f"token service auth.example responded with {status} to user alice{text}"


def test_a_long_reason_is_cut() -> None:
    service = Service(lambda: answer(400, b"x" * 1000))
    with pytest.raises(Unavailable) as caught:
        run(make_tokens().renewed(SCOPE, None, bearer()), service)
    assert len(caught.value.reason) == 200


@pytest.mark.parametrize("header", ["", 'Basic realm="harbor"', bearer("https://gone.example/token")])
@pytest.mark.parametrize("credential", [ALICE, None])
def test_after_a_token_has_expired_a_challenge_that_leads_nowhere_is_not_the_last_word(
    header: str, credential: Credential | None
) -> None:
    """None: https://github.com/docker/hub-feedback/issues/2530. Basic:
    https://github.com/google/go-containerregistry/issues/1747. Another realm:
    https://github.com/NVIDIA/nvidia-container-toolkit/issues/1945."""
    tokens, service = make_tokens(credential), Service()
    first = run(tokens.renewed(SCOPE, None, bearer()), service)
    working = service.next_token
    service.answer = lambda: answer(401, b"") if "gone.example" in service.asked[-1].url else working()
    renewed = run(tokens.renewed(SCOPE, first, header), service)
    assert renewed != first and renewed.startswith("Bearer t")


# Sharing: flows driven by hand, so that every order is a chosen one.


def answered(step: object, flow: Flow[Any], service: Service) -> object:
    """Takes a flow from its Open to what comes after the answer."""
    assert isinstance(step, Open)
    response = service.send_blocking(step.method, step.url, step.headers)
    after = flow.send(response)
    assert isinstance(after, Read | Drop)
    return after


def finish(flow: Flow[Any], value: object) -> Any:
    with pytest.raises(StopIteration) as end:
        flow.send(value)
    return end.value.value


def test_who_comes_while_a_token_is_fetched_waits_for_it() -> None:
    tokens, service = make_tokens(), Service()
    first, second = (tokens.renewed(SCOPE, None, bearer()) for _ in range(2))
    opening, waiting = next(first), next(second)
    assert isinstance(waiting, Wait)
    after = answered(opening, first, service)
    assert isinstance(after, Read)
    assert finish(first, after.response.read()) == "Bearer t1"
    assert finish(second, waiting.future.result(0)) == "Bearer t1"


def test_a_failure_is_shared_as_fresh_exceptions_and_not_remembered() -> None:
    tokens, service = make_tokens(), Service(granting(status=429, headers={"Retry-After": "17"}))
    first, second, third = (tokens.renewed(SCOPE, None, bearer()) for _ in range(3))
    opening, waiting, more = next(first), next(second), next(third)
    assert isinstance(waiting, Wait)
    assert isinstance(more, Wait)
    answered(opening, first, service)
    errors = []
    for flow, value in ((first, None), (second, waiting.future), (third, more.future)):
        with pytest.raises(RateLimited) as caught:
            flow.send(value.result(0) if value is not None else None)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3
    assert [error.retry_after for error in errors] == [17] * 3
    service.answer = service.next_token
    assert run(tokens.renewed(SCOPE, None, bearer()), service) == "Bearer t2"


def test_one_who_leaves_while_fetching_hands_the_task_on() -> None:
    tokens, service = make_tokens(), Service()
    first, second = (tokens.renewed(SCOPE, None, bearer()) for _ in range(2))
    next(first)
    waiting = next(second)
    assert isinstance(waiting, Wait)
    first.close()
    opening = second.send(waiting.future.result(0))
    after = answered(opening, second, service)
    assert isinstance(after, Read)
    assert finish(second, after.response.read()) == "Bearer t1"


def test_who_waits_too_long_for_another_meets_an_outage() -> None:
    tokens = make_tokens()
    first, second = (tokens.renewed(SCOPE, None, bearer()) for _ in range(2))
    next(first)
    assert isinstance(next(second), Wait)
    with pytest.raises(Unavailable, match="did not respond in time"):
        second.throw(TimeoutError())
    first.close()


def test_a_challenge_that_led_nowhere_does_not_stand_in_the_way() -> None:
    tokens, service = make_tokens(), Service()
    with pytest.raises(Unavailable):
        run(tokens.renewed(SCOPE, None, bearer("http://evil.example/")), service)
    assert run(tokens.authorization(SCOPE), service) is None
    assert run(tokens.renewed(SCOPE, None, bearer()), service) == "Bearer t1"


def test_a_token_service_that_fails_may_be_another_the_next_time() -> None:
    tokens, service = make_tokens(hosts=frozenset({"auth.example", "new.example"})), Service()
    assert run(tokens.renewed("a", None, bearer()), service) == "Bearer t1"
    service.answer = granting(status=503)
    with pytest.raises(Unavailable):
        run(tokens.authorization("b"), service)
    service.answer = service.next_token
    assert run(tokens.authorization("b"), service) is None
    assert run(tokens.renewed("b", None, bearer("https://new.example/token")), service) == "Bearer t3"
    assert service.asked[-1].url.startswith("https://new.example/token?")


def test_different_scopes_do_not_wait_for_each_other() -> None:
    tokens = make_tokens()
    flows = [tokens.renewed(scope, None, bearer()) for scope in ("a", "b")]
    assert [type(next(flow)) for flow in flows] == [Open, Open]
    for flow in flows:
        flow.close()


async def test_tasks_and_threads_share_one_fetch() -> None:
    tokens, service = make_tokens(), Service()
    service.gate.clear()
    barrier = threading.Barrier(9)

    def from_thread() -> Any:
        barrier.wait(30)
        return run(tokens.renewed(SCOPE, None, bearer()), service)

    executor = ThreadPoolExecutor(9)
    threads = [asyncio.wrap_future(executor.submit(from_thread)) for _ in range(8)]
    tasks = [
        asyncio.ensure_future(carry_out(tokens.renewed(SCOPE, None, bearer()), service))  # type: ignore[arg-type]
        for _ in range(8)
    ]
    await asyncio.wrap_future(executor.submit(barrier.wait, 30))
    service.gate.set()
    assert set(await asyncio.gather(*threads, *tasks)) == {"Bearer t1"}
    executor.shutdown()
    assert len(service.asked) == 1


async def test_a_cancelled_task_leaves_no_one_waiting() -> None:
    tokens, service = make_tokens(), Service()
    service.gate.clear()
    one, other = (
        asyncio.ensure_future(carry_out(tokens.renewed(SCOPE, None, bearer()), service))  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert await asyncio.to_thread(service.opened.wait, 30)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    service.gate.set()
    assert await other == "Bearer t2"


async def test_a_waiter_that_is_cancelled_does_not_stop_the_fetch() -> None:
    tokens, service = make_tokens(), Service()
    service.gate.clear()
    one, other = (
        asyncio.ensure_future(carry_out(tokens.renewed(SCOPE, None, bearer()), service))  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert await asyncio.to_thread(service.opened.wait, 30)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    service.gate.set()
    assert await one == "Bearer t1"


def test_what_a_guest_names_counts_for_no_image_of_the_upstream() -> None:
    guest = make_tokens(ALICE).anonymous(Origin("https", "guest.example", 443))
    step = next(guest.renewed(SCOPE, None, bearer(f"{OWN}/fails")))
    assert isinstance(step, Open) and step.redirected and " " in step.image


def test_what_a_guest_names_takes_no_lookups_of_another_owner() -> None:
    """Lookups are counted by the first part of an image's name."""
    guest = make_tokens(ALICE).anonymous(Origin("https", "guest.example", 443))
    step = next(guest.renewed(SCOPE, None, bearer(f"{OWN}/fails")))
    assert isinstance(step, Open) and step.image.partition("/")[0] == "guest guest.example"
