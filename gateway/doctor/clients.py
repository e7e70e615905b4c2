"""Replay of pulls: the requests of docker, containerd, podman and buildkit, sent to the running server.

Blocks. Requests, connections and headers were taken from traces of these programs.
"""

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from cache.oci.closure import fits
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.manifest import SIZE_LIMIT, Manifest
from cache.oci.media_types import ACCEPTED, essence, is_index, is_manifest
from cache.oci.names import Tag
from gateway.doctor.check import Check, Remedy, failed, passed

HEADERS_WITHIN = 20.0
"""Seconds; containerd gives up at 30."""
BLOB_LIMIT = 64 * 1024 * 1024
RESPONSE_SECONDS = 30.0
"""Time limit of every wait for the server."""


@dataclass(frozen=True, slots=True)
class ClientProfile:
    """Behaviour of a client that pulls.

    `accept`: its Accept lines. `pings`: it requests /v2/ first. `sends_head`: it resolves the tag by HEAD.
    `names_upstream`: it adds `?ns=`.
    """

    name: str
    user_agent: str
    accept: tuple[str, ...]
    pings: bool
    sends_head: bool
    keeps_connection: bool
    names_upstream: bool


_LINES = tuple(sorted(ACCEPTED, reverse=True))
_LINE = (", ".join([*ACCEPTED, "*/*"]),)
PROFILES = (
    ClientProfile("docker", "docker/29.0 go/go1.25 os/linux arch/amd64", _LINES, True, True, False, False),
    ClientProfile("containerd", "containerd/2.2.0", _LINE, False, True, True, True),
    ClientProfile("podman", "containers/5.37 (github.com/containers/image)", _LINES, True, False, False, False),
    ClientProfile("buildkit", "containerd/1.6.20+unknown", _LINE, False, True, True, False),
)


@dataclass(frozen=True, slots=True)
class PullTarget:
    """The image of a replayed pull.

    `name`: of the repository at this server. `upstream`: the configured name of its upstream. `is_allowed`: which of
    its manifests and blobs may be requested. `requires_login`: whether its group can never serve anybody without one.
    """

    name: str
    upstream: str
    reference: Tag | Digest
    is_allowed: Callable[[Descriptor], bool] = field(default=lambda descriptor: True)
    requires_login: bool = False


class ResponseWrong(Exception):
    """A response is wrong; the text states which and why, `remedy` what to do."""

    def __init__(self, text: str, remedy: str | Remedy) -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A response of the server. `request`: method and path. `seconds`: from the request to the headers."""

    request: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float


def replay_all(url: str, certificate: str | None, target: PullTarget) -> list[Check]:
    """Replay the pull of every client, each as a check. `certificate`: the server's own, a PEM file."""
    return [replay(profile, url, certificate, target) for profile in PROFILES]


def replay(
    profile: ClientProfile, url: str, certificate: str | None, target: PullTarget, timeout: float = RESPONSE_SECONDS
) -> Check:
    """Replay the pull of one client. `timeout`: seconds of every wait for the server."""
    name = f"pull as {profile.name}"
    pull = ReplayedPull(profile, url, certificate, f"?ns={target.upstream}" if profile.names_upstream else "", timeout)
    try:
        _pull(profile, pull, target)
    except ResponseWrong as error:
        return failed(name, str(error), error.remedy)
    except RegistryError as error:
        return failed(name, f"a response does not follow the specification: {error}", _PROXY_REMEDY)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        return failed(name, f"the connection to {url} failed ({reason})", "see whether the server runs, and its log")
    finally:
        pull.close()
    slowest = max(response.seconds for response in pull.responses)
    return passed(
        name,
        f"{len(pull.responses)} responses for {target.name} are right, headers within {slowest * 1000:.0f} ms",
    )


_PROXY_REMEDY = "see what is between: a reverse proxy must pass status, headers and bodies on as they are"


_CHALLENGE = re.compile(r'Bearer realm="https?://[^"]*?(?P<path>/jwt/[^"]*)",service="(?P<service>[^"]*)"')
"""Challenge of a ping; the token is requested below the URL of the server itself."""


class ReplayedPull:
    """The requests of one pull, over one connection or over one each."""

    def __init__(self, profile: ClientProfile, url: str, certificate: str | None, query: str, timeout: float) -> None:
        self._profile = profile
        self._url = url
        self._certificate = certificate
        self._query = query
        self._timeout = timeout
        self._kept: http.client.HTTPConnection | None = None
        self._login: list[tuple[str, str]] = []
        self.responses: list[ClientResponse] = []

    def ping(self, name: str) -> None:
        """Ping the server, and where it challenges the client, request a token for a repository as clients do.

        Raises as `send` does.
        """
        response = self._exchange("GET", "/v2/", [], SIZE_LIMIT)
        if response.status != 401:
            _check_response(response, SIZE_LIMIT)
            return
        challenge = _CHALLENGE.fullmatch(response.headers.get("WWW-Authenticate", ""))
        if challenge is None:
            raise ResponseWrong("GET /v2/ returned 401 without a challenge that clients understand", _PROXY_REMEDY)
        query = urlencode({"service": challenge["service"], "scope": f"repository:{name}:pull"})
        response = self._exchange("GET", f"{challenge['path']}?{query}", [], SIZE_LIMIT)
        try:
            self._login = [("Authorization", f"Bearer {json.loads(response.body)['token']}")]
        except (ValueError, KeyError, TypeError):
            text = f"{challenge['path']} returned {response.status} and no token: {_error_text(response)}"
            raise ResponseWrong(text, _remedy_of(response)) from None

    def send(self, method: str, path: str, headers: list[tuple[str, str]], limit: int = SIZE_LIMIT) -> ClientResponse:
        """Send a request, and read at most `limit` bytes of its body. Raises ResponseWrong, OSError, HTTPException."""
        response = self._exchange(method, path + self._query, [*self._login, *headers], limit)
        if method == "HEAD" and response.status >= 400:
            self.send("GET", path, headers)  # only the body of a response to GET states why
            raise ResponseWrong(f"{response.request} returned {response.status}, but GET 200", _PROXY_REMEDY)
        _check_response(response, limit)
        return response

    def _exchange(self, method: str, target: str, headers: list[tuple[str, str]], limit: int) -> ClientResponse:
        connection = self._kept or _connect(self._url, self._certificate, self._timeout)
        self._kept = connection if self._profile.keeps_connection else None
        began = time.monotonic()
        connection.putrequest(method, target, skip_accept_encoding=True)
        more = [] if self._profile.keeps_connection else [("Connection", "close")]
        for name, value in [("User-Agent", self._profile.user_agent), *headers, *more]:
            connection.putheader(name, value)
        connection.endheaders()
        received = connection.getresponse()
        seconds = time.monotonic() - began
        body = received.read(limit + 1)
        if self._kept is None:
            connection.close()
        path = target.partition("?")[0]
        response = ClientResponse(f"{method} {path}", received.status, received.headers, body, seconds)
        self.responses.append(response)
        return response

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _connect(url: str, certificate: str | None, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    context = ssl.create_default_context()
    if certificate:
        # The server's own certificate is trusted, whatever its name: clients decide for themselves whom they trust.
        context.load_verify_locations(certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def unreadiness(url: str, certificate: str | None) -> str | None:
    """Get the reason why the server at a URL is not ready; None if it is ready."""
    connection = _connect(url, certificate, RESPONSE_SECONDS)
    try:
        connection.request("GET", "/-/ready", headers={"Connection": "close"})
        response = connection.getresponse()
        response.read(SIZE_LIMIT)
        return None if response.status == 200 else f"{url}/-/ready returned {response.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"the connection to {url} failed ({str(error) or type(error).__name__})"
    finally:
        connection.close()


def _pull(profile: ClientProfile, pull: ReplayedPull, target: PullTarget) -> None:
    accept = [("Accept", line) for line in profile.accept]
    if profile.pings:
        pull.ping(target.name)
    path = f"/v2/{target.name}"
    reference: Tag | Digest = target.reference
    if profile.sends_head:
        head = pull.send("HEAD", f"{path}/manifests/{reference}", accept)
        reference = _manifest_headers(head).digest
    manifest = _manifest(pull.send("GET", f"{path}/manifests/{reference}", accept), reference)
    if is_index(manifest.descriptor.media_type):
        child = _choose(manifest)
        if child is None or not target.is_allowed(child):
            return
        manifest = _manifest(pull.send("GET", f"{path}/manifests/{child.digest}", accept), child.digest)
    layers = sorted(manifest.layers, key=lambda layer: layer.size)[:1]
    for blob in [*([manifest.config] if manifest.config else []), *layers]:
        if blob.size <= BLOB_LIMIT and target.is_allowed(blob):
            encoding = [("Accept-Encoding", "gzip")]
            _check_blob(pull.send("GET", f"{path}/blobs/{blob.digest}", encoding, BLOB_LIMIT), blob)


def _choose(index: Manifest) -> Descriptor | None:
    """The child for linux/amd64, else the first that is an image; None without one."""
    for child, platform in index.platforms():
        if child.is_manifest and platform is not None and fits("linux/amd64", platform):
            return child
    return next((child for child in index.children if child.is_manifest), None)


def _check_response(response: ClientResponse, limit: int) -> None:
    if response.status >= 400:
        raise ResponseWrong(
            f"{response.request} returned {response.status}: {_error_text(response)}", _remedy_of(response)
        )
    if response.status != 200:
        raise ResponseWrong(f"{response.request} returned {response.status} instead of 200", _PROXY_REMEDY)
    if response.seconds > HEADERS_WITHIN:
        text = f"{response.request} took {response.seconds:.0f} s to its headers"
        raise ResponseWrong(text, "see which upstream is slow: clients give up after 30 s")
    if "/blobs/" not in response.request:
        _require(response, "Docker-Distribution-API-Version", "registry/2.0")
    if len(response.body) > limit:
        raise ResponseWrong(f"{response.request} has more than {limit} bytes", _PROXY_REMEDY)
    length = response.headers.get("Content-Length", "")
    if not response.request.startswith("HEAD") and length != str(len(response.body)):
        raise ResponseWrong(
            f"{response.request} has Content-Length {length or 'none'}, and {len(response.body)} bytes came",
            _PROXY_REMEDY,
        )


def _require(response: ClientResponse, name: str, value: str | None = None) -> str:
    found = response.headers.get(name)
    if found is None or value not in (None, found):
        wanted = f"{name}: {value}" if value else name
        raise ResponseWrong(f"{response.request} lacks {wanted}", _PROXY_REMEDY)
    return found


def _manifest_headers(response: ClientResponse) -> Descriptor:
    media_type = essence(_require(response, "Content-Type"))
    if not is_manifest(media_type):
        raise ResponseWrong(f"{response.request} has the media type {media_type[:60]}", _PROXY_REMEDY)
    _require(response, "X-Cache")
    length = _require(response, "Content-Length")
    digest = Digest.parse(_require(response, "Docker-Content-Digest"))
    return Descriptor(media_type, digest, int(length) if length.isascii() and length.isdigit() else 0)


def _manifest(response: ClientResponse, reference: Tag | Digest) -> Manifest:
    stated = _manifest_headers(response)
    wanted = reference if isinstance(reference, Digest) else stated.digest
    if stated.digest != wanted or not wanted.holds_for(response.body):
        raise ResponseWrong(f"{response.request} has a body that does not match the digest {wanted}", _PROXY_REMEDY)
    return Manifest.parse(stated.media_type, response.body, wanted.algorithm)


def _check_blob(response: ClientResponse, blob: Descriptor) -> None:
    _require(response, "X-Cache")
    if "Content-Encoding" in response.headers:
        raise ResponseWrong(f"{response.request} has a Content-Encoding", "do not let a proxy compress below /v2")
    if not blob.digest.holds_for(response.body) or blob.size not in (0, len(response.body)):
        raise ResponseWrong(f"{response.request} has a body that does not match this digest", _PROXY_REMEDY)


def _error_text(response: ClientResponse) -> str:
    """Shorten the text of an error for a person."""
    try:
        [entry, *_] = json.loads(response.body)["errors"]
        text = f"{entry['code']}, {entry.get('detail') or entry.get('message')}"
    except (ValueError, KeyError, TypeError):
        text = "a response that is no error of the specification" if response.body else "nothing"
    return "".join(character if character.isprintable() else "?" for character in text)[:300]


def _remedy_of(response: ClientResponse) -> str | Remedy:
    request = response.headers.get("X-Request-Id", "")
    if response.status in (401, 403):
        return Remedy.ALLOW_PULL
    if response.status == 404:
        return "see whether the group has its dependency proxy on, and whether the image is there"
    if response.status in (429, 502, 503):
        return "see the checks of the upstream; no cached content could be served instead"
    return f"see the server's log for request {request}" if request else "see the server's log"
