"""Exchange: one request to a registry with its quota, tokens and redirects, until it is known what the response means.

Who spoke and what that means is decided in `statements`. A refusal is believed only of a live token: one that was kept
is renewed once before. And it is believed of the image only if the registry accepts the credential at all, which a
request for /v2/ with the same credential shows; otherwise the credential is refused, and that is an outage.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote, urlsplit

import structlog

from cache.oci.media_types import essence
from cache.runtime.throttle import LogThrottle
from cache.upstream.allowance import RequestKind, parse_stated_limit, retry_after, stated_delay
from cache.upstream.egress import OWN_HEADERS, Egress, Response
from cache.upstream.errors import (
    AccessDenied,
    CameBack,
    CredentialRefused,
    NoStatement,
    NotFound,
    RateLimited,
    Unavailable,
)
from cache.upstream.flow import Drop, Flow, Open, Read
from cache.upstream.guests import Guests
from cache.upstream.loops import LOOPED
from cache.upstream.quota import Quota
from cache.upstream.statements import (
    ERROR_LIMIT,
    Meaning,
    head_proves_nothing,
    may_speak_for_registry,
    meaning_of,
    speaks_for_registry,
)
from cache.upstream.tokens import Tokens
from cache.upstream.urls import REDIRECT_LIMIT, REDIRECTS, origin_of, redirect_target
from cache.values import Source

GUEST_TRIES = 2
"""Tokens that a redirect's target is shown: one that was kept, and a new one."""

_REFUSED = (400, 401, 403)
"""Statuses with which registries refuse an expired credential."""

_HIDDEN = (403, 404, 410)
"""Statuses with which registries hide from strangers what they may not see, without a challenge."""

log = structlog.get_logger()
throttle = LogThrottle()


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """A request for an image, by the full name that its registry's host knows; `path` is what follows the name."""

    kind: RequestKind
    image: str
    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def scope(self) -> str:
        return f"repository:{self.image}:pull"

    @property
    def blamed(self) -> str:
        """The image that a failure counts for; none for a part, since an upstream that fails at ranges may still serve
        the whole blob."""
        return "" if self.kind is RequestKind.PART else self.image


@dataclass(frozen=True, slots=True)
class Heard:
    """A response and what it means. Its body is unread if it is the content, else it is closed.

    `own`: whether the upstream's own host sent it, before any redirect to another. `vouched`: whether all hosts on the
    way to it are the upstream's own, or named in its settings; another may have been chosen by whoever owns the image.
    `authorization`: the header with which the request was sent, None without. `delay`: the seconds for which a limit
    wants no requests, if it says so.
    """

    response: Response
    own: bool
    vouched: bool
    meaning: Meaning
    authorization: str | None
    delay: int | None = None


class Exchange:
    """Requests to one registry with one credential, as flows that raise only UpstreamError."""

    def __init__(
        self, source: Source, url: str, egress: Egress, tokens: Tokens, quota: Quota, *, truthful_heads: bool = False
    ) -> None:
        """`truthful_heads`: whether the registry refuses a HEAD of a manifest only where it refuses a GET."""
        self.tokens = tokens
        self._source = source
        self._url = url
        self._egress = egress
        self._quota = quota
        self._truthful = truthful_heads
        self._guests = Guests(tokens)

    def content(self, request: RegistryRequest) -> Flow[Response]:
        """Send a request and return its content, a 2xx response, or where it named what is held the response that this
        is the content (304)."""
        heard = yield from self.hear(request)
        unchanged = heard.meaning is Meaning.UNCHANGED and "If-None-Match" in request.headers
        if heard.meaning is not Meaning.CONTENT and not unchanged:
            yield from self.refuse(heard, request)
        return heard.response

    def head(self, request: RegistryRequest) -> Flow[tuple[Response | None, Heard]]:
        """Send a HEAD and return its 2xx response, None if it proves nothing, so that a GET has to follow; beside what
        was heard."""
        heard = yield from self.hear(request)
        if heard.meaning is Meaning.CONTENT:
            yield Drop(heard.response)
            return heard.response, heard
        truthful = self._truthful and request.path.startswith("manifests/")
        if head_proves_nothing(heard.response.status_code, heard.meaning, truthful=truthful):
            return None, heard
        return (yield from self.refuse(heard, request))

    def hear(self, request: RegistryRequest) -> Flow[Heard]:
        """Send a request with tokens and redirects. While the quota allows none, RateLimited is raised instead."""
        with self._quota.request(request.kind, request.image) as counted:
            try:
                heard = yield from self._authorized(request)
            except RateLimited as error:
                counted.refused(None, error.retry_after)
                raise
            headers = heard.response.headers
            stated = parse_stated_limit(headers) if heard.own else None
            if heard.meaning is Meaning.LIMITED:
                counted.refused(stated, heard.delay)
            else:
                served = heard.meaning in (Meaning.CONTENT, Meaning.UNCHANGED)
                counted.responded(stated, served=served)
            return heard

    def refuse(self, heard: Heard, request: RegistryRequest) -> Flow[NoReturn]:
        """Raise the error for a response that is no content."""
        host, status = self._source.origin.netloc, heard.response.status_code
        spoke = host if heard.own else f"{origin_of(str(heard.response.url)).netloc}, to which {host} redirects,"
        match heard.meaning:
            case Meaning.ABSENT:
                raise NotFound(f"{host} does not have this content in {request.image}")
            case Meaning.DENIED:
                if self.tokens.has_credential and heard.authorization is not None:
                    yield from self._check_credential(heard.authorization)
                raise AccessDenied(f"{host} refuses access to {request.image} {self._as_whom()}")
            case Meaning.LIMITED:
                raise RateLimited(self._quota.reason(), heard.delay)
            case Meaning.NOTHING:
                raise NoStatement(f"{spoke} responded with {status}, but not as a registry does")
        if status == LOOPED:
            raise CameBack(f"{spoke} responded with {status}: requests to it come back to it through its own upstreams")
        raise Unavailable(f"{spoke} responded with {status}", retry_after(heard.response.headers))

    def _as_whom(self) -> str:
        """As whom the requests are sent, for the text of a refusal."""
        user = self._source.credential.username
        return f"to user {user}" if user else "without a login"

    def _authorized(self, request: RegistryRequest) -> Flow[Heard]:
        """Send a request, and again with a new token if that may change a refusal."""
        try:
            heard = yield from self._sent(request, (yield from self.tokens.authorization(request.scope)))
            if self._may_depend_on_token(heard):
                renewed = yield from self._renewed(heard, request.scope)
                if renewed is not None:
                    yield Drop(heard.response)
                    heard = yield from self._sent(request, renewed)
        except CredentialRefused as error:
            self._report(error)
            raise
        return heard

    def _may_depend_on_token(self, heard: Heard) -> bool:
        """Whether a response may be due to a token that has expired, or to the want of one."""
        status = heard.response.status_code
        if not heard.own:
            return False
        if status == 401 or (heard.authorization is not None and status in _REFUSED):
            return True
        return heard.authorization is None and status in _HIDDEN and self.tokens.has_credential

    def _renewed(self, heard: Heard, scope: str) -> Flow[str | None]:
        """A header other than that of a refused request, by the registry's challenge; None if there is none."""
        challenge = ", ".join(heard.response.headers.get_list("www-authenticate"))
        if not challenge and not self.tokens.is_challenged:
            ping = yield from self._pinged(None)
            challenge = ", ".join(ping.headers.get_list("www-authenticate")) if ping.status_code == 401 else ""
        return (yield from self.tokens.renewed(scope, heard.authorization, challenge))

    def _check_credential(self, authorization: str) -> Flow[None]:
        """Raise CredentialRefused if the registry refuses our credential, whatever it is used for.

        A registry may refuse at /v2/ a token that was issued for one image, so another one is requested there.
        """
        ping = yield from self._pinged(authorization)
        if ping.status_code in _REFUSED and authorization.startswith("Bearer "):
            challenge = ", ".join(ping.headers.get_list("www-authenticate"))
            wide = yield from self.tokens.renewed("", authorization, challenge)
            if wide is not None:
                ping = yield from self._pinged(wide)
        host, status = self._source.origin.netloc, ping.status_code
        if status == 429 or status >= 500:
            reason = f"{host} refuses access, and responded with {status} when its /v2/ was requested"
            raise Unavailable(reason, retry_after(ping.headers))
        if status in _REFUSED:
            self.tokens.note_password(authorization, accepted=False)
            error = CredentialRefused(
                f"{host} refuses user {self._source.credential.username} ({status}): the password may have expired; "
                "replace it"
            )
            self._report(error)
            raise error

    def _pinged(self, authorization: str | None) -> Flow[Response]:
        """Request /v2/ and return the response, closed."""
        credential = {"Authorization": authorization} if authorization else {}
        url = f"{self._url}/v2/"
        headers = {"Host": urlsplit(url).netloc, **OWN_HEADERS}
        response: Response = yield Open("GET", url, headers | credential, brief=True)
        yield Drop(response)
        return response

    def _sent(self, request: RegistryRequest, authorization: str | None) -> Flow[Heard]:
        """Send a request once, follow its redirects, and find out what the response means."""
        response, own, vouched = yield from self._walk(request, authorization)
        of_blob = request.path.startswith("blobs/")
        meaning = meaning_of(response.status_code, response.headers, own=own, of_blob=of_blob)
        if meaning is Meaning.CONTENT:
            if own and authorization:
                self.tokens.note_password(authorization, accepted=True)
            return Heard(response, own, vouched, meaning, authorization)
        if meaning is Meaning.LIMITED:
            return Heard(response, own, vouched, meaning, authorization, (yield from _delay(response)))
        if request.method != "HEAD" and (body := (yield from self._error_of(response, own=own))):
            meaning = meaning_of(response.status_code, response.headers, body, own=own, of_blob=of_blob)
            if speaks_for_registry(response.status_code, response.headers, body, own=own):
                origin = origin_of(str(response.url))
                self._egress.circuits.note_alive(origin, request.blamed, redirected=not own)
        yield Drop(response)
        return Heard(response, own, vouched, meaning, authorization)

    def _error_of(self, response: Response, *, own: bool) -> Flow[bytes]:
        """The body of a refusal that may show that the registry itself refuses; empty if it is long, or breaks off."""
        page = essence(response.headers.get("content-type", "")) == "text/html"
        if page or not may_speak_for_registry(response.status_code, own=own):
            return b""
        try:
            body: bytes | None = yield Read(response, ERROR_LIMIT)
        except Unavailable:
            return b""
        return body or b""

    def _walk(self, request: RegistryRequest, authorization: str | None) -> Flow[tuple[Response, bool, bool]]:
        """Send a request and follow redirects; return the response, with `own` and `vouched` of Heard. Only the
        upstream's own host sees the credential. Another registry, to which a redirect leads, gets an anonymous token if
        it demands one."""
        plain = {**OWN_HEADERS, **request.headers}
        url = f"{self._url}/v2/{quote(request.image)}/{request.path}"
        own, vouched, host, guest, tries = True, True, self._source.origin.netloc, None, 0
        for _ in range(REDIRECT_LIMIT + 1):
            if not self._egress.allows(url):
                raise Unavailable(f"{host} redirects to {origin_of(url).netloc}, which is not among its redirect_hosts")
            own = own and origin_of(url) == self._source.origin
            vouched = vouched and (own or self._egress.names(url))
            token = authorization if own else guest
            headers = {"Host": urlsplit(url).netloc, **plain} | ({"Authorization": token} if token else {})
            response: Response = yield Open(request.method, url, headers, request.blamed, redirected=not own)
            if response.status_code == 401 and not own and tries < GUEST_TRIES:
                guest = yield from self._guests.authorization(url, response, guest)
                tries += 1
                if guest is not None:
                    yield Drop(response)
                    continue
            if response.status_code not in REDIRECTS or "location" not in response.headers:
                return response, own, vouched
            guest, tries = None, 0
            yield Drop(response)
            try:
                url = redirect_target(url, response.headers["location"], authorization)
            except ValueError as error:
                raise Unavailable(f"{origin_of(url).netloc} redirects to a forbidden location: {error}") from error
        raise Unavailable(f"{host} redirects more than {REDIRECT_LIMIT} times")

    def _report(self, error: CredentialRefused) -> None:
        """Count a refusal of our credential, and log it now and then."""
        self._egress.traffic.credential_refused()
        user, host = self._source.credential.username, self._source.origin.netloc
        if throttle.due(f"{host} {user}"):
            log.error("upstream_credential_refused", host=host, user=user, reason=error.reason)


def _delay(response: Response) -> Flow[int | None]:
    """Close a 429; return the seconds that it states, some registries in their message only."""
    body = b""
    with suppress(Unavailable):
        body = (yield Read(response, ERROR_LIMIT)) or b""
    return stated_delay(response.headers, body)
