"""Tokens: challenges (RFC 9110, section 11) and token authentication of registries (distribution project, "Token
Authentication").

A token is requested only when a registry demands one, once for all waiters, and again shortly before it expires. A
credential is sent only to the upstream itself and to the hosts that are configured as its token service; without one,
any host may issue the token.
"""

import base64
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from cache.oci.document import parse_document
from cache.upstream.allowance import retry_after
from cache.upstream.errors import AccessDenied, CredentialRefused, RateLimited, Unavailable, UpstreamError
from cache.upstream.flow import Drop, Flow, Open, Read, Wait
from cache.upstream.urls import origin_of
from cache.values import Origin

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(
    rf'[\s,]*(?:({_TOKEN})[ \t]+)?({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?=,|$)', re.DOTALL
)
_BARE_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:[ \t]+[-A-Za-z0-9._~+/]+=*)?\s*(?=,|$)")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,16384}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_RESPONSE_LIMIT = 64 * 1024
_SHORTEST_LIFE, _LONGEST_LIFE = 60, 3600
"""Seconds for which a token is used where its service states no lifetime, and at most."""

_RENEW_BEFORE = 10
TOKENS_KEPT = 256
"""Tokens of one source, one for each image: clients can invent any number of names, and a token may have 16 KiB."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Demand for credentials in a WWW-Authenticate header: its scheme and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Credential:
    """User name and password for an upstream; `repr` omits the password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def parse_challenges(header: str) -> list[Challenge]:
    """Parse a WWW-Authenticate value, with schemes and parameter names in lower case; [] if it is malformed."""
    challenges: list[Challenge] = []
    parameters: dict[str, str] | None = None
    place = 0
    while found := _PARAMETER.match(header, place) or _BARE_SCHEME.match(header, place):
        place = found.end()
        scheme = found[1]
        if scheme is not None:
            parameters = {}
            challenges.append(Challenge(scheme.lower(), parameters))
        if found.re is _PARAMETER:
            if parameters is None:
                return []
            _, name, quoted, plain = found.groups()
            value = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if plain is None else plain
            parameters.setdefault(name.lower(), value)
    return challenges


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    renew_at: float


class Tokens:
    """Authorization headers for one source's requests; shared by tasks and threads."""

    def __init__(
        self,
        origin: Origin,
        token_hosts: frozenset[str],
        credential: Callable[[], Credential | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = origin
        self._token_hosts = token_hosts
        self._credential = credential
        self._clock = clock
        self._challenge: Challenge | None = None
        self._held: OrderedDict[str, _Token] = OrderedDict()
        self._pending: dict[str, Future[UpstreamError | None]] = {}
        self._lock = threading.Lock()

    @property
    def has_credential(self) -> bool:
        return self._credential() is not None

    @property
    def is_challenged(self) -> bool:
        """Whether the upstream has demanded authentication in a way that led to a header."""
        return self._challenge is not None

    def anonymous(self, origin: Origin) -> "Tokens":
        """Tokens for strangers of another registry, from its own realm or the same token hosts."""
        return Tokens(origin, self._token_hosts, lambda: None, self._clock)

    def authorization(self, scope: str) -> Flow[str | None]:
        """Header for a first request; None while this upstream has not demanded authentication."""
        if self._challenge is None:
            return None
        try:
            return (yield from self._fresh(self._challenge, scope, refused=None))
        except UpstreamError:
            # the registry may name another token service by now: the next request gets a new challenge
            self._challenge = None
            raise

    def renewed(self, scope: str, refused: str | None, www_authenticate: str) -> Flow[str | None]:
        """Header for the repetition after `refused` was refused; None if there is no better one. An empty scope means
        the registry itself.

        A refusal without a challenge is due to the challenge that was met before, and so is one that offers less: some
        registries demand a password after a token has expired.
        Raises Unavailable if the token service fails or refuses our credential, RateLimited, or AccessDenied if it
        refuses an anonymous request.
        """
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(www_authenticate)}
        known = self._challenge
        challenge = challenges.get("bearer") or (known if known and known.scheme == "bearer" else None)
        challenge = challenge or challenges.get("basic") or known
        if challenge is None:
            return None
        try:
            header = yield from self._fresh(challenge, scope, refused)
        except UpstreamError:
            if challenge is known:  # the registry may demand something else by now
                self._challenge = None
            raise
        # A challenge is kept only after it led to a token, so that a useless one does not disturb later requests.
        self._challenge = challenge
        return header

    def _fresh(self, challenge: Challenge, scope: str, refused: str | None) -> Flow[str | None]:
        if challenge.scheme == "basic":
            credential = self._credential()
            header = credential.basic() if credential else None
            return None if header == refused else header
        while True:
            with self._lock:
                held = self._held.get(scope)
                if held and held.header != refused and self._clock() < held.renew_at:
                    self._held.move_to_end(scope)
                    return held.header
                pending = self._pending.get(scope)
                if pending is None:
                    mine = self._pending[scope] = Future()
            if pending is not None:
                try:
                    failure = yield Wait(pending)
                except TimeoutError as error:
                    raise Unavailable(f"the token service of {self._origin.host} did not respond in time") from error
                if failure:
                    raise failure.again()
                refused = None
                continue
            outcome: UpstreamError | None = None
            try:
                token = yield from self._fetch(challenge, scope)
                with self._lock:
                    self._keep(scope, token)
                return token.header
            except UpstreamError as error:
                outcome = error
                raise
            finally:
                with self._lock:
                    del self._pending[scope]
                mine.set_result(outcome)

    def _fetch(self, challenge: Challenge, scope: str) -> Flow[_Token]:
        realm = challenge.parameters.get("realm", "")
        credential = self._credential()
        host = self._check_realm(realm, at_stake=credential is not None)
        query = {"service": challenge.parameters["service"]} if "service" in challenge.parameters else {}
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query | ({'scope': scope} if scope else {}))}"
        headers = {"Accept": "application/json"} | ({"Authorization": credential.basic()} if credential else {})
        image = scope.removeprefix("repository:").removesuffix(":pull")
        response = yield Open("GET", url, headers, image, brief=True)
        if response.status_code != 200:
            yield Drop(response)
            if response.status_code == 429:
                raise RateLimited(f"token service {host} received too many requests", retry_after(response.headers))
            if response.status_code in (401, 403) and credential is None:
                raise AccessDenied(f"token service {host} issues no token without a login")
            whom = f" to user {credential.username}" if credential else ""
            reason = f"token service {host} responded with {response.status_code}{whom}"
            raise CredentialRefused(reason) if response.status_code in (401, 403) else Unavailable(reason)
        content = yield Read(response, _RESPONSE_LIMIT)
        return self._token(content, host)

    def _token(self, content: bytes | None, host: str) -> _Token:
        try:
            document = parse_document(content or b"")
            token = document.get("token") or document.get("access_token")
            life = document.get("expires_in")
        except (ValueError, AttributeError):
            token, life = None, None
        if not isinstance(token, str) or not _HEADER_SAFE.fullmatch(token):
            raise Unavailable(f"token service {host} sent a response without a token")
        stated = isinstance(life, int | float) and life > 0
        seconds = min(life, _LONGEST_LIFE) if stated else _SHORTEST_LIFE
        return _Token(f"Bearer {token}", self._clock() + max(seconds - _RENEW_BEFORE, seconds / 2))

    def _check_realm(self, realm: str, *, at_stake: bool) -> str:
        """Check the realm and return its host and port for messages. Raises Unavailable if it must not be used.

        `at_stake`: whether it would receive the credential. An anonymous token may come from any host that a redirect
        may lead to.
        """
        try:
            parts = urlsplit(realm)
            origin = origin_of(realm)
        except ValueError as error:
            raise Unavailable(f"{self._origin.host} names a token service with an invalid URL") from error
        if parts.username is not None or "#" in realm or not _VISIBLE.fullmatch(realm):
            raise Unavailable(f"{self._origin.host} names a strange token service at {origin.host}")
        if origin == self._origin:
            return origin.host
        declared = {parts.hostname} if origin.port == (443 if origin.scheme == "https" else 80) else set()
        declared |= {f"{parts.hostname}:{origin.port}"}
        if origin.scheme != self._origin.scheme and origin.scheme != "https":
            raise Unavailable(f"{self._origin.host} uses https, but names a token service without it at {origin.host}")
        if at_stake and not declared & self._token_hosts:
            raise Unavailable(
                f"{self._origin.host} names a token service at {origin.host}:{origin.port}, which is not among the "
                "upstream's token_hosts"
            )
        return origin.host

    def _keep(self, scope: str, token: _Token) -> None:
        self._held.pop(scope, None)
        self._held[scope] = token
        while len(self._held) > TOKENS_KEPT:
            self._held.popitem(last=False)  # the one that was not used for longest
