"""A scripted registry that demands tokens in the words of public ones.

- `CHALLENGES`: demands, by the registry that was seen to send them. ghcr.io's names a placeholder:
  https://github.com/linkerd/linkerd2/issues/5959. public.ecr.aws has a scope of its own:
  https://github.com/aws/containers-roadmap/issues/2671. nvcr.io names no service:
  https://github.com/renovatebot/renovate/issues/17294. Nexus sends neither:
  https://github.com/sonatype/nexus-public/issues/659. SUSE's service has spaces:
  https://github.com/project-zot/zot. Gitea offers Basic as well, in a header of its own or in the same one:
  https://github.com/go-gitea/gitea/blob/main/routers/api/packages/container/container.go.
- `EXPIRED`: demands after a token has expired. None at all: https://github.com/docker/hub-feedback/issues/2530. Basic:
  https://github.com/google/go-containerregistry/issues/1747. Another realm:
  https://github.com/NVIDIA/nvidia-container-toolkit/issues/1945.
- `TOKENS`: what a token service sends. Without a lifetime: https://github.com/goharbor/harbor/issues/23753. As text:
  https://github.com/NERSC/shifter/issues/238.
"""

import json
from typing import Any

from .liar import Answer, Liar
from .records import Record

CHALLENGES = {
    "plain": 'Bearer realm="{realm}",service="registry.example",scope="{scope}"',
    "ghcr.io": 'Bearer realm="{realm}",service="ghcr.io",scope="repository:user/image:pull"',
    "public.ecr.aws": 'Bearer realm="{realm}",service="public.ecr.aws",scope="aws"',
    "nvcr.io": 'Bearer realm="{realm}",scope="{scope}"',
    "Nexus": 'Bearer realm="{realm}"',
    "SUSE": 'Bearer realm="{realm}",service="SUSE Linux Docker Registry",scope="{scope}"',
    "Gitea, two headers": 'Bearer realm="{realm}",service="container_registry",scope="*"\r\n'
    'WWW-Authenticate: Basic realm="Gitea Container Registry"',
    "Gitea, one header": 'Bearer realm="{realm}",service="container_registry",scope="*", Basic realm="Gitea"',
    "Basic first": 'Basic realm="Gitea", Bearer realm="{realm}",service="container_registry",scope="*"',
    "lower case": 'bearer REALM="{realm}", Service=registry',
}
EXPIRED = {
    "no challenge": None,
    "Basic": 'Basic realm="harbor"',
    "another realm": 'Bearer realm="{realm}/dead-end",service="registry",error="invalid_token"',
}
TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "token": ({"token": "{}"}, "application/json"),
    "access_token": ({"access_token": "{}"}, "application/json"),
    "as text": ({"token": "{}", "expires_in": 300}, "text/plain; charset=utf-8"),
    "both, with a lifetime": ({"token": "{}", "access_token": "{}", "expires_in": 300}, "application/json"),
}


class Challenger(Liar):
    """A Liar whose content needs a token; lies apply to its token service, `/token`, too.

    `challenge` may have `{realm}` and `{scope}`. `expired_challenge`: what follows a token that is no longer valid; ""
    for the same. `tokens`: one of TOKENS.
    """

    challenge = CHALLENGES["plain"]
    expired_challenge: str | None = ""
    tokens = TOKENS["token"]
    _issued = 0
    _valid = 0

    def expire(self) -> None:
        """Makes every token invalid that was issued so far."""
        self._valid = self._issued + 1

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        if record.path == "/token":
            self._issued += 1
            document, media_type = self.tokens
            body = json.dumps(document).replace("{}", f"t-{self._issued}")
            return Answer(200, {"Content-Type": media_type}, body.encode())
        if record.path.startswith("/token"):
            return Answer(401, {"Content-Type": "text/html"}, b"<html>401 Authorization Required</html>")
        kind, _, token = (record.header("authorization") or "").partition(" ")
        if kind == "Bearer" and int(token.partition("-")[2]) >= self._valid:
            return super()._honest_answer(record, ranged=ranged)
        told = self.challenge if not token or self.expired_challenge == "" else self.expired_challenge
        headers = {"Content-Type": "application/json"}
        if told is not None:
            name = "/".join(record.path.split("/")[2:-2])
            scope = f"repository:{name}:pull"
            headers["WWW-Authenticate"] = told.replace("{realm}", f"{self.url}/token").replace("{scope}", scope)
        return Answer(401, headers, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
