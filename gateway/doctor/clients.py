"""What docker, containerd, podman and buildkit ask when they pull, asked of the running server, each in its manner.

Blocks. Read from traces of these programs: which requests, over which connections, with which headers.
"""

import http.client
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.manifest import SIZE_LIMIT, Manifest
from cache.oci.media_types import ACCEPTED, essence, is_index, is_manifest
from cache.oci.names import Tag
from gateway.doctor.check import Check, failed, passed

HEADERS_WITHIN = 20.0
"""Seconds; containerd gives up at 30."""
BLOB_LIMIT = 64 * 1024 * 1024
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client pulls. `accept`: its Accept lines. `pings`: it asks /v2/ first; `asks_head`: for the tag by HEAD."""

    name: str
    user_agent: str
    accept: tuple[str, ...]
    pings: bool
    asks_head: bool
    keeps_connection: bool
    names_upstream: bool


_LINES = tuple(sorted(ACCEPTED, reverse=True))
_LINE = (", ".join([*ACCEPTED, "*/*"]),)
MANNERS = (
    Manner("docker", "docker/29.0 go/go1.25 os/linux arch/amd64", _LINES, True, True, False, False),
    Manner("containerd", "containerd/2.2.0", _LINE, False, True, True, True),
    Manner("podman", "containers/5.37 (github.com/containers/image)", _LINES, True, False, False, False),
    Manner("buildkit", "containerd/1.6.20+unknown", _LINE, False, True, True, False),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What is pulled: `name` is the repository's at this server, `upstream` the configured name of where it is from.
    `blobs`: which of the children and blobs may be asked for."""

    name: str
    upstream: str
    reference: Tag | Digest
    blobs: Callable[[Descriptor], bool] = field(default=lambda descriptor: True)


class Amiss(Exception):
    """An answer is not as it must be; the text says which and how, `remedy` what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Answer:
    what: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float
    """From the request to the headers."""


def replay_all(url: str, certificate: str | None, target: Target) -> list[Check]:
    return [replay(manner, url, certificate, target) for manner in MANNERS]


def replay(manner: Manner, url: str, certificate: str | None, target: Target) -> Check:
    name = f"pull as {manner.name}"
    conversation = Conversation(manner, url, certificate, f"?ns={target.upstream}" if manner.names_upstream else "")
    try:
        _pull(manner, conversation, target)
    except Amiss as error:
        return failed(name, str(error), error.remedy)
    except RegistryError as error:
        return failed(name, f"an answer holds what is none of the specification: {error}", _BETWEEN)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        return failed(name, f"the connection to {url} failed ({reason})", "see whether the server runs, and its log")
    finally:
        conversation.close()
    slowest = max(answer.seconds for answer in conversation.answers)
    return passed(
        name,
        f"{len(conversation.answers)} answers for {target.name} are right, headers within {slowest * 1000:.0f} ms",
    )


_BETWEEN = "see what stands between: a reverse proxy must pass status, headers and bodies on as they are"


class Conversation:
    """The requests of one pull, over one connection or over one each."""

    def __init__(self, manner: Manner, url: str, certificate: str | None, query: str) -> None:
        self._manner = manner
        self._url = url
        self._certificate = certificate
        self._query = query
        self._kept: http.client.HTTPConnection | None = None
        self.answers: list[Answer] = []

    def ask(self, method: str, path: str, headers: list[tuple[str, str]], limit: int = SIZE_LIMIT) -> Answer:
        connection = self._kept or _connect(self._url, self._certificate)
        self._kept = connection if self._manner.keeps_connection else None
        began = time.monotonic()
        connection.putrequest(method, path + self._query, skip_accept_encoding=True)
        more = [] if self._manner.keeps_connection else [("Connection", "close")]
        for name, value in [("User-Agent", self._manner.user_agent), *headers, *more]:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        seconds = time.monotonic() - began
        body = response.read(limit + 1)
        if self._kept is None:
            connection.close()
        answer = Answer(f"{method} {path}", response.status, response.headers, body, seconds)
        self.answers.append(answer)
        if method == "HEAD" and answer.status >= 400:
            self.ask("GET", path, headers)  # only a body says why
            raise Amiss(f"{answer.what} was answered {answer.status}, but GET 200", _BETWEEN)
        _check_answer(answer, limit)
        return answer

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _connect(url: str, certificate: str | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT)
    context = ssl.create_default_context()
    if certificate:
        # The server's own certificate is trusted, whatever name it has: what clients trust is theirs to say.
        context.load_verify_locations(certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT, context=context)


def unreadiness(url: str, certificate: str | None) -> str | None:
    """Why the server at an address takes no traffic; None where it does."""
    connection = _connect(url, certificate)
    try:
        connection.request("GET", "/-/ready", headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read(SIZE_LIMIT)
        return None if answer.status == 200 else f"{url}/-/ready was answered {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"the connection to {url} failed ({str(error) or type(error).__name__})"
    finally:
        connection.close()


def _pull(manner: Manner, conversation: Conversation, target: Target) -> None:
    accept = [("Accept", line) for line in manner.accept]
    if manner.pings:
        conversation.ask("GET", "/v2/", [])
    path = f"/v2/{target.name}"
    reference: Tag | Digest = target.reference
    if manner.asks_head:
        head = conversation.ask("HEAD", f"{path}/manifests/{reference}", accept)
        reference = _manifest_headers(head).digest
    manifest = _manifest(conversation.ask("GET", f"{path}/manifests/{reference}", accept), reference)
    if is_index(manifest.descriptor.media_type):
        child = _choose(manifest)
        if child is None or not target.blobs(child):
            return
        manifest = _manifest(conversation.ask("GET", f"{path}/manifests/{child.digest}", accept), child.digest)
    layers = sorted(manifest.layers, key=lambda layer: layer.size)[:1]
    for blob in [*([manifest.config] if manifest.config else []), *layers]:
        if blob.size <= BLOB_LIMIT and target.blobs(blob):
            encoding = [("Accept-Encoding", "gzip")]
            _check_blob(conversation.ask("GET", f"{path}/blobs/{blob.digest}", encoding, BLOB_LIMIT), blob)


def _choose(index: Manifest) -> Descriptor | None:
    """The child for this kind of machine where there is one, else the first that is an image."""
    entries = json.loads(index.raw).get("manifests", [])
    for child, entry in zip(index.children, entries, strict=True):
        platform = entry.get("platform") or {}
        if child.is_manifest and platform.get("os") == "linux" and platform.get("architecture") == "amd64":
            return child
    return next((child for child in index.children if child.is_manifest), None)


def _check_answer(answer: Answer, limit: int) -> None:
    if answer.status >= 400:
        raise Amiss(f"{answer.what} was answered {answer.status}: {_said(answer)}", _remedy_of(answer))
    if answer.status != 200:
        raise Amiss(f"{answer.what} was answered {answer.status} instead of 200", _BETWEEN)
    if answer.seconds > HEADERS_WITHIN:
        text = f"{answer.what} took {answer.seconds:.0f} s to its headers"
        raise Amiss(text, "see which upstream is slow: clients give up after 30 s")
    if "/blobs/" not in answer.what:
        _require(answer, "Docker-Distribution-API-Version", "registry/2.0")
    if len(answer.body) > limit:
        raise Amiss(f"{answer.what} was answered with more than {limit} bytes", _BETWEEN)
    length = answer.headers.get("Content-Length", "")
    if not answer.what.startswith("HEAD") and length != str(len(answer.body)):
        raise Amiss(f"{answer.what} has Content-Length {length or 'none'}, and {len(answer.body)} bytes came", _BETWEEN)


def _require(answer: Answer, name: str, value: str | None = None) -> str:
    found = answer.headers.get(name)
    if found is None or value not in (None, found):
        wanted = f"{name}: {value}" if value else name
        raise Amiss(f"{answer.what} was answered without {wanted}", _BETWEEN)
    return found


def _manifest_headers(answer: Answer) -> Descriptor:
    media_type = essence(_require(answer, "Content-Type"))
    if not is_manifest(media_type):
        raise Amiss(f"{answer.what} was answered with {media_type[:60]}", _BETWEEN)
    _require(answer, "X-Cache")
    length = _require(answer, "Content-Length")
    digest = Digest.parse(_require(answer, "Docker-Content-Digest"))
    return Descriptor(media_type, digest, int(length) if length.isascii() and length.isdigit() else 0)


def _manifest(answer: Answer, reference: Tag | Digest) -> Manifest:
    told = _manifest_headers(answer)
    wanted = reference if isinstance(reference, Digest) else told.digest
    if told.digest != wanted or not wanted.holds_for(answer.body):
        raise Amiss(f"{answer.what} was answered with a body that does not have the digest {wanted}", _BETWEEN)
    return Manifest.parse(told.media_type, answer.body, wanted.algorithm)


def _check_blob(answer: Answer, blob: Descriptor) -> None:
    _require(answer, "X-Cache")
    if "Content-Encoding" in answer.headers:
        raise Amiss(f"{answer.what} was answered with a Content-Encoding", "do not let a proxy compress below /v2")
    if not blob.digest.holds_for(answer.body) or len(answer.body) != blob.size:
        raise Amiss(f"{answer.what} was answered with a body that does not have this digest", _BETWEEN)


def _said(answer: Answer) -> str:
    """What an error says to a person, shortened."""
    try:
        [entry, *_] = json.loads(answer.body)["errors"]
        text = f"{entry['code']}, {entry.get('detail') or entry.get('message')}"
    except (ValueError, KeyError, TypeError):
        text = "an answer that is no error of the specification" if answer.body else "nothing"
    return "".join(character if character.isprintable() else "?" for character in text)[:300]


def _remedy_of(answer: Answer) -> str:
    request = answer.headers.get("X-Request-Id", "")
    if answer.status in (401, 403):
        return "let the group pull (group update --anonymous-pull), or do what the answer says"
    if answer.status == 404:
        return "see whether the group has its dependency proxy on, and whether the image is there"
    if answer.status in (429, 502, 503):
        return "see what the checks of the upstream say; nothing that is cached could answer"
    return f"see the server's log for request {request}" if request else "see the server's log"
