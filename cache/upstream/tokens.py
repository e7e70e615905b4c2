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
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from cache.oci.document import parse_document
from cache.oci.media_types import essence
from cache.upstream.allowance import retry_after, stated_delay
from cache.upstream.egress import OWN_HEADERS, Response
from cache.upstream.errors import AccessDenied, CredentialRefused, NoStatement, RateLimited, Unavailable, UpstreamError
from cache.upstream.flow import Drop, Flow, Obtain, Open, Read, Wait
from cache.upstream.ledger import Ledger
from cache.upstream.logins import Logins
from cache.upstream.refusals import refusal_text
from cache.upstream.statements import ERROR_LIMIT
from cache.upstream.urls import REDIRECT_LIMIT, REDIRECTS, origin_of, redirect_target
from cache.values import Origin, Source

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
_HEADERS = {"Accept": "application/json", **OWN_HEADERS}
TOKENS_KEPT = 256
"""Tokens of one source, one for each image: clients can invent any number of names, and a token may have 16 KiB."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Demand for credentials in a WWW-Authenticate header: its scheme and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Credential:
    """User name and password for an upstream; `repr` omits the password.

    `version`: what changes when the password is replaced, and tells nothing of it. By default a hash that no other
    process can make.
    """

    username: str
    password: str
    version: str = ""

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", f"{hash((self.username, self.password)):x}")

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may repeat: the password, as it is and as it is sent."""
        return self.password, self.basic().partition(" ")[2]


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
        *,
        refused: Callable[[Credential], None] | None = None,
        logins: Logins | None = None,
        of_guest: bool = False,
    ) -> None:
        """`refused`: told of a credential that was refused, where another may be had at once; returns at once.
        `credential` may then take long. `logins`: the attempts with the credential; by default only this object knows
        them. `of_guest`: the registry is the target of a redirect, and so is each token service that it names: what
        becomes of it counts for the image, and it is shown nothing, even at the upstream's own origin."""
        self._refused = refused
        self._logins = logins or Logins(Ledger(), Source(origin))
        self._presented: Credential | None = None
        self._of_guest = of_guest
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
        return self._refused is not None or self._credential() is not None

    @property
    def is_challenged(self) -> bool:
        """Whether the upstream has demanded authentication in a way that led to a header."""
        return self._challenge is not None

    def anonymous(self, origin: Origin) -> "Tokens":
        """Tokens for strangers of another registry, a guest, from its own realm or the same token hosts."""
        return Tokens(origin, self._token_hosts, lambda: None, self._clock, of_guest=True)

    def note_password(self, authorization: str, *, accepted: bool) -> None:
        """Note whether the upstream accepts the credential itself, or refuses it whatever it is presented for.
        `authorization`: the header with which it was presented, which may be a token's."""
        presented = self._presented
        if presented is not None and presented.basic() == authorization:
            (self._logins.accepted if accepted else self._logins.refused)(presented)

    def authorization(self, scope: str) -> Flow[str | None]:
        """Header for a first request; None while this upstream has not demanded authentication."""
        if self._challenge is None:
            return None
        try:
            return (yield from self._fresh(self._challenge, scope, refused=None))
        except CredentialRefused:
            raise
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
        known, failure = self._challenge, None
        for challenge in self._ways(parse_challenges(www_authenticate)):
            try:
                header = yield from self._fresh(challenge, scope, refused)
            except RateLimited:
                raise
            except UpstreamError as error:
                failure = failure or error
                if challenge is known:  # the registry may demand something else by now
                    self._challenge = None
                continue
            if header is not None:
                # A challenge is kept only after it led to a token, so that a useless one does not disturb later
                # requests.
                self._challenge = challenge
                return header
        if failure is not None:
            raise failure
        return None

    def _ways(self, offered: list[Challenge]) -> list[Challenge]:
        """Challenges to meet, in their order: what is offered, and the one that was met before, because for a token
        that has expired a registry may name another realm, which is a dead end."""
        first, known = {challenge.scheme: challenge for challenge in reversed(offered)}, self._challenge
        kept = known if known and known.scheme == "bearer" else None
        ways: dict[tuple[str, str | None], Challenge] = {}
        for challenge in (first.get("bearer"), kept, first.get("basic"), known):
            if challenge is not None:
                ways.setdefault((challenge.scheme, challenge.parameters.get("realm")), challenge)
        return list(ways.values())

    def _fresh(self, challenge: Challenge, scope: str, refused: str | None) -> Flow[str | None]:
        if challenge.scheme == "basic":
            credential = yield from self._login()
            if credential and credential.basic() == refused:
                credential = yield from self._other_login(credential)
            if credential is None or credential.basic() == refused:
                return None
            self._logins.check(credential)
            self._presented = credential
            return credential.basic()
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
                    raise Unavailable(f"the token service of {self._origin.netloc} did not respond in time") from error
                if failure:
                    raise failure.again()
                refused = None
                continue
            outcome: UpstreamError | None = None
            try:
                token = yield from self._fetched(challenge, scope)
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

    def _fetched(self, challenge: Challenge, scope: str) -> Flow[_Token]:
        """A new token. A credential that the token service refuses whatever it is used for is not presented again
        soon."""
        credential = yield from self._login()
        if credential is None:
            return (yield from self._fetch(challenge, scope, None))
        turn = yield from self._logins.turn(credential)
        try:
            try:
                token = yield from self._fetch(challenge, scope, credential)
            except CredentialRefused:
                if (yield from self._is_refused(challenge, scope, credential)):
                    self._logins.refused(credential)
                    if self._refused is not None:
                        self._refused(credential)
                raise
            self._logins.accepted(credential)
            return token
        finally:
            self._logins.end(turn)

    def _is_refused(self, challenge: Challenge, scope: str, credential: Credential) -> Flow[bool]:
        """Whether the token service that refused a token for a scope refuses one without a scope as well: some say so
        of an image that the credential may not read."""
        if not scope:
            return True
        try:
            yield from self._fetch(challenge, "", credential)
        except CredentialRefused:
            return True
        except UpstreamError:
            pass
        return False

    def _fetch(self, challenge: Challenge, scope: str, credential: Credential | None) -> Flow[_Token]:
        realm = challenge.parameters.get("realm", "")
        host = self._check_realm(realm, at_stake=credential is not None)
        query = {"service": challenge.parameters["service"]} if "service" in challenge.parameters else {}
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query | ({'scope': scope} if scope else {}))}"
        image = scope.removeprefix("repository:").removesuffix(":pull")
        if self._of_guest:
            # A guest names the scope: it must neither open the circuit nor take the lookups of any image but its own.
            image = f"guest {self._origin.netloc}/{image}"
        first, own = origin_of(url), True
        for _ in range(REDIRECT_LIMIT + 1):
            # A redirect to another host, even to one of `token_hosts`, carries no credential.
            own = own and origin_of(url) == first
            authorization = credential.basic() if credential and own else None
            headers = _HEADERS | ({"Authorization": authorization} if authorization else {})
            redirected = self._of_guest or not own
            response: Response = yield Open("GET", url, headers, image, redirected=redirected, brief=True)
            if response.status_code not in REDIRECTS or "location" not in response.headers:
                break
            yield Drop(response)
            try:
                url = redirect_target(url, response.headers["location"], authorization)
            except ValueError as error:
                raise Unavailable(f"token service {host} redirects to a forbidden location: {error}") from error
            host = self._check_realm(url, at_stake=credential is not None)
        else:
            raise Unavailable(f"token service {host} redirects more than {REDIRECT_LIMIT} times")
        if 200 <= response.status_code < 300:
            return self._token((yield Read(response, _RESPONSE_LIMIT)), host)
        raise (yield from self._refusal(response, host, credential))

    def _refusal(self, response: Response, host: str, credential: Credential | None) -> Flow[UpstreamError]:
        """The error for a token service's refusal, with the reason that it states."""
        body, status = b"", response.status_code
        with suppress(Unavailable):
            body = (yield Read(response, ERROR_LIMIT)) or b""
        if status == 429:
            reason = f"token service {host} received too many requests"
            return RateLimited(reason, stated_delay(response.headers, body))
        page = essence(response.headers.get("content-type", "")) == "text/html"
        if page and (status == 403 or (status == 401 and credential is None)):
            return NoStatement(f"token service {host} responded with {status} and a page, as a firewall does")
        text = refusal_text(body, credential.secrets() if credential else ())
        said = f": {text}" if text else ""
        if status in (401, 403) and credential is None:
            return AccessDenied(f"token service {host} issues no token without a login{said}")
        whom = f" to user {credential.username}" if credential else ""
        reason = f"token service {host} responded with {status}{whom}{said}"
        return CredentialRefused(reason) if status in (401, 403) else Unavailable(reason, retry_after(response.headers))

    def _login(self) -> Flow[Credential | None]:
        if self._refused is None:
            return self._credential()
        credential: Credential | None = yield Obtain(self._credential)
        return credential

    def _other_login(self, credential: Credential) -> Flow[Credential | None]:
        if self._refused is None:
            return credential
        self._refused(credential)
        return (yield from self._login())

    def _token(self, content: bytes | None, host: str) -> _Token:
        try:
            document = parse_document(content or b"")
            token = document.get("token") or document.get("access_token")
            life = document.get("expires_in")
        except (ValueError, AttributeError):
            token, life = None, None
        if not isinstance(token, str) or not _HEADER_SAFE.fullmatch(token):
            raise Unavailable(f"token service {host} sent a response without a token")
        if not isinstance(life, int | float) or life <= 0:
            return _Token(f"Bearer {token}", self._clock() + _SHORTEST_LIFE)
        seconds = min(life, _LONGEST_LIFE)
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
            raise Unavailable(f"{self._origin.netloc} names a token service with an invalid URL") from error
        if parts.username is not None or "#" in realm or not _VISIBLE.fullmatch(realm):
            raise Unavailable(f"{self._origin.netloc} names a strange token service at {origin.netloc}")
        if origin == self._origin:
            return origin.netloc
        declared = {parts.hostname} if origin.port == (443 if origin.scheme == "https" else 80) else set()
        declared |= {f"{parts.hostname}:{origin.port}"}
        if origin.scheme != self._origin.scheme and origin.scheme != "https":
            raise Unavailable(
                f"{self._origin.netloc} uses https, but names a token service without it at {origin.netloc}"
            )
        if at_stake and not declared & self._token_hosts:
            raise Unavailable(
                f"{self._origin.netloc} names a token service at {origin.netloc}, which is not among the "
                "upstream's token_hosts"
            )
        return origin.netloc

    def _keep(self, scope: str, token: _Token) -> None:
        self._held.pop(scope, None)
        self._held[scope] = token
        while len(self._held) > TOKENS_KEPT:
            self._held.popitem(last=False)  # the one that was not used for longest
