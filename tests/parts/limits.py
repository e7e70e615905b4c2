"""Limits in the words of public registries.

- ghcr.io states its delay in the message, below a millisecond: https://github.com/dependabot/cli/issues/380
- docker.io's limit on abuse is a text whose head has bare line feeds:
  https://github.com/docker/hub-feedback/issues/1907
- docker.io's limit on pulls states no delay: https://github.com/Azure/azure-sdk-for-js/issues/34390
- quay.io's is a page of nginx: https://github.com/3scale/3scale-operator/issues/583; its token service's too:
  https://github.com/linuxserver/docker-servarr/issues/68
- public.ecr.aws: https://github.com/aws/aws-lambda-web-adapter/issues/429
- mcr.microsoft.com responds 503 under load: https://github.com/microsoft/containerregistry/issues/131
"""

from dataclasses import replace

from .lies import Framing, Lie, answered, refused

_PAGE = b"<html><head><title>429 Too Many Requests</title></head><body><center>nginx</center></body></html>\r\n"
_DELAYED = (
    '{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 880.092\u00b5s, allowed: 44000/minute"}]}'.encode()
)

LIMITS: dict[str, Lie] = {
    "ghcr.io": answered(429, _DELAYED, Content_Type="application/json"),
    "docker.io, abuse": replace(
        answered(429, b"Too Many Requests (HAP429).\n", Content_Type="text/plain", Retry_After="60"),
        bare=True,
        framing=Framing.CLOSE,
    ),
    "docker.io, pulls": refused(429, "TOOMANYREQUESTS"),
    "quay.io": answered(429, _PAGE, Content_Type="text/html"),
    "public.ecr.aws": answered(
        429, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}', Content_Type="application/json"
    ),
    "mcr.microsoft.com": answered(503, b"", Content_Type="text/plain"),
}
