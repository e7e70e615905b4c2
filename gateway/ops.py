"""/-/…: for those who run the server."""

import hmac
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from cache.oci.errors import Denied, EndpointUnknown, StoreUnavailable, Unauthorized
from gateway.observability.metrics import METRICS_TYPE
from gateway.services import Services

log = structlog.get_logger()


class MetricsAccess(Enum):
    """Who may read the metrics."""

    GUARDED = "guarded"
    """Whoever has the token; where there is none, everybody as long as the server is reached on loopback alone."""
    OPEN = "open"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Options:
    """`loopback_only`: whether the server's addresses and its external URL are all on loopback. Where a client connects
    from decides nothing: behind a reverse proxy all come from one place."""

    metrics_access: MetricsAccess = MetricsAccess.GUARDED
    metrics_token_file: Path | None = None
    loopback_only: bool = True


def routes(services: Services, options: Options) -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        """The process is alive and its loop turns."""
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        """It may take traffic: it is not stopping, its databases answer and its data can be read. An upstream that is
        down does not count, nor a disk that takes nothing more: the cache serves on."""
        if services.process.stopping:
            raise StoreUnavailable("this process is stopping")
        await services.directory.check()
        await services.index.check()
        folder = services.folder.blobs
        if not os.access(folder, os.R_OK | os.X_OK):
            raise StoreUnavailable("the data folder cannot be read")
        return JSONResponse({"status": "ready", "writable": os.access(folder, os.W_OK)})

    async def metrics(request: Request) -> Response:
        """What has been counted, as Prometheus reads it; no names of images or users are in it."""
        check_access(options, request.headers.get("authorization", ""))
        return Response(services.metrics.exposition(), media_type=METRICS_TYPE)

    return [Route("/-/health", health), Route("/-/ready", ready), Route("/-/metrics", metrics)]


def check_access(options: Options, authorization: str) -> None:
    """Raises Denied, Unauthorized, or EndpointUnknown where there are no metrics to be had."""
    if options.metrics_access is MetricsAccess.OFF:
        raise EndpointUnknown("the metrics are off")
    if options.metrics_access is MetricsAccess.OPEN:
        return
    if options.metrics_token_file is None:
        if not options.loopback_only:
            raise Denied(
                "this server is reached beyond its own machine: set metrics_token_file and give its content to "
                'Prometheus, or set metrics_access = "open" if everybody may read the metrics'
            )
        return
    scheme, _, given = authorization.partition(" ")
    wanted = _read_token(options.metrics_token_file)
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), wanted):
        raise Unauthorized("the token of metrics_token_file is needed", {"WWW-Authenticate": 'Bearer realm="metrics"'})


def _read_token(file: Path) -> bytes:
    """Read each time, so that a changed file is used at once. Raises Denied for one that nobody can give."""
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        log.error("metrics_token_not_read", file=str(file), reason=error.strerror)
        token = b""
    if not token:
        raise Denied("the metrics_token_file is empty or cannot be read; the log says why")
    return token
