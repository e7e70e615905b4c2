"""Guarded: a scripted registry that demands a login or a token, and refuses in the ways of public registries."""

import base64
import json
import socket
from urllib.parse import parse_qs, unquote

from . import lies
from .liar import MANIFEST_PATH, Answer, Liar, missing
from .lies import Lie
from .records import Record

EXPIRED_AT_ECR = Lie(
    status=403,
    headers={"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"},
    body=b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}',
)
"""Amazon ECR's refusal of a password after twelve hours, without a challenge
(https://github.com/fluxcd/flux2/issues/3043)."""

EXPIRED_AT_PUBLIC_ECR = Lie(
    status=400,
    headers={"Content-Type": "application/json"},
    body=b'{"errors":[{"code":"DENIED","message":"Your Authorization Token is invalid."}]}',
)
"""The refusal of a token after an hour by public.ecr.aws, without a challenge
(https://github.com/oras-project/oras-go/issues/1227)."""


class Guarded(Liar):
    """A registry whose content is for `users` (names and passwords) alone, by `scheme`: Basic or Bearer.

    `expired`: its refusal of a login or token that is not valid; by default 401 with the challenge. `hides`: the
    status, 404 or 403, that strangers see instead of a challenge, except at /v2/. `closed`: images that it refuses to
    everybody. `public`: images for everybody, who need a token if the scheme is Bearer. `refused_scopes`: scopes that
    get no token. `front`: what its token service responds to everything.
    """

    def __init__(self, scheme: str = "Basic", **users: str) -> None:
        super().__init__()
        self.scheme = scheme
        self.users = users
        self.expired: Lie | None = None
        self.hides: int | None = None
        self.closed: set[str] = set()
        self.public: set[str] = set()
        self.refused_scopes: set[str] = set()
        self.front: Lie | None = None
        self.issued = 0
        self._live: dict[str, str] = {}

    def expire(self) -> None:
        """Makes every token that was issued invalid."""
        self._live.clear()

    def _reply(self, connection: socket.socket, record: Record, *, first: bool) -> bool:
        if record.path == "/token":
            return self._deliver(connection, record, self._issue(record), missing("TOKEN"))
        refusal = self._refusal(record)
        if refusal is not None:
            return self._deliver(connection, record, refusal, missing("REFUSED"))
        return super()._reply(connection, record, first=first)

    def _issue(self, record: Record) -> Lie:
        if self.front is not None:
            return self.front
        scope = parse_qs(record.query).get("scope", [""])[0]
        user, image = self._user(record.header("authorization")), scope.partition(":")[2].removesuffix(":pull")
        if user is None and (record.header("authorization") is not None or image not in self.public):
            return lies.refused(401, "UNAUTHORIZED")
        if scope in self.refused_scopes:
            return lies.refused(403, "DENIED")
        self.issued += 1
        token = f"token-{self.issued}"
        self._live[token] = scope
        return Lie(status=200, headers={"Content-Type": "application/json"}, body=json.dumps({"token": token}).encode())

    def _user(self, authorization: str | None) -> str | None:
        kind, _, value = (authorization or "").partition(" ")
        if kind != "Basic":
            return None
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name if self.users.get(name) == password else None

    def _refusal(self, record: Record) -> Lie | None:
        authorization, path = record.header("authorization"), unquote(record.path)
        image = path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0].partition("/tags/")[0]
        if authorization is None:
            hidden = self.hides is not None and path != "/v2/"
            return lies.refused(self.hides or 404, "NAME_UNKNOWN") if hidden else self._challenge(image)
        token = authorization.removeprefix("Bearer ")
        known = self._user(authorization) is not None if self.scheme == "Basic" else token in self._live
        if not known:
            return self.expired or self._challenge(image)
        if self.scheme == "Bearer" and path != "/v2/" and self._live[token] != f"repository:{image}:pull":
            return self._challenge(image)
        return lies.refused(403, "DENIED") if image in self.closed else None

    def _challenge(self, image: str) -> Lie:
        value = f'Basic realm="{self.url}"'
        if self.scheme == "Bearer":
            scope = f',scope="repository:{image}:pull"' if image else ""
            value = f'Bearer realm="{self.url}/token",service="registry"{scope}'
        refused = lies.refused(401, "UNAUTHORIZED")
        return Lie(status=401, body=refused.body, headers={**refused.headers, "WWW-Authenticate": value})


class Redirecting(Liar):
    """A name whose requests for manifests and lists are redirected to another registry and another repository there.

    registry.k8s.io does so by 307 (https://github.com/kubernetes/registry.k8s.io, `cmd/archeio`); names of vendors do
    so by Scarf's gateway, to a registry that demands a token of its own (https://github.com/scarf-sh/gateway).
    """

    def __init__(self, target: Liar, prefix: str = "k8s-artifacts/images") -> None:
        super().__init__()
        self.target = target
        self.prefix = prefix

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        path = unquote(record.path)
        if not path.startswith("/v2/") or path == "/v2/":
            return super()._honest_answer(record, ranged=ranged)
        location = f"{self.target.url}/v2/{self.prefix}/{path.removeprefix('/v2/')}"
        return Answer(307, {"Location": location, "Content-Type": "text/html"}, b"")


class WithoutDigests(Liar):
    """A registry that names no digest in a header, as Amazon ECR did
    (https://github.com/distribution/distribution/issues/3792), but responds 304 to an ETag that still holds."""

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        found = super()._honest_answer(record, ranged=ranged)
        digest = found.headers.get("Docker-Content-Digest")
        if not MANIFEST_PATH.fullmatch(unquote(record.path)) or digest is None:
            return found
        headers = {key: value for key, value in found.headers.items() if key != "Docker-Content-Digest"}
        if record.header("if-none-match") == f'"{digest}"':
            return Answer(304, headers, b"")
        return Answer(found.status, headers, found.body)
