"""/-/…: whether the server is alive and ready, and its metrics; with its own rendering of errors."""

import hmac
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from cache.oci.errors import Denied, EndpointUnknown, RegistryError, StoreUnavailable, Unauthorized
from cache.runtime.disk import disk_space
from cache.runtime.fair_queue import NOBODY
from cache.runtime.on_behalf import on_behalf_of
from cache.sqlite import DatabaseUnusable
from gateway.data_folder import NEEDED_BYTES, NEEDED_FILES
from gateway.http.access_log import note_refusal
from gateway.http.errors import error_response, unexpected_response, unknown_path, unusable_database, wrong_method
from gateway.observability.metrics import METRICS_TYPE
from gateway.services import Services

log = structlog.get_logger()

HEALTH, READY, METRICS = "/-/health", "/-/ready", "/-/metrics"
PROBED = frozenset({HEALTH, READY, METRICS})
"""Paths that machines request at intervals: a line for each would hide all others in the log."""


class MetricsAccess(Enum):
    """Access rule of the metrics."""

    GUARDED = "guarded"
    """Requires the token; if no token file is set, everybody may read while the server is reached on loopback alone."""
    OPEN = "open"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class OpsOptions:
    """`loopback_only`: whether the server's addresses and its external URL are all on loopback. The address of a
    client decides nothing: behind a reverse proxy all clients share one."""

    metrics_access: MetricsAccess = MetricsAccess.GUARDED
    metrics_token_file: Path | None = None
    loopback_only: bool = True


DEFAULT_OPS_OPTIONS = OpsOptions()


def ops_app(services: Services, options: OpsOptions) -> ASGIApp:
    """The app of every path under /-/."""
    app = Starlette(
        routes=_routes(services, options),
        exception_handlers={
            DatabaseUnusable: _on_database_unusable,
            RegistryError: _on_refusal,
            Exception: _on_unexpected,
            404: _on_not_found,
            405: _on_method_not_allowed,
        },
    )
    app.router.redirect_slashes = False
    return app


def _routes(services: Services, options: OpsOptions) -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        """Respond at once: the process is alive and its event loop runs."""
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        """Check that the server may take traffic: it is not stopping, and its databases and data can be read.

        An upstream that is down or a full disk does not count, because cached content is still served.
        """
        if services.server_state.stopping:
            raise StoreUnavailable("this process is stopping")
        with on_behalf_of(NOBODY):  # behind no reads of a client that has requested many
            await services.directory.check()
            await services.index.check()
        folder = services.folder.blobs
        if not os.access(folder, os.R_OK | os.X_OK):
            raise StoreUnavailable("the data folder cannot be read")
        full = disk_space(folder).lacks(NEEDED_BYTES, NEEDED_FILES)
        return JSONResponse({"status": "ready", "writable": os.access(folder, os.W_OK) and not full})

    async def metrics(request: Request) -> Response:
        """Counters in the form of Prometheus; they name no image and no user."""
        check_access(options, request.headers.get("authorization", ""))
        return Response(services.metrics.exposition(), media_type=METRICS_TYPE)

    return [Route(HEALTH, health), Route(READY, ready), Route(METRICS, metrics)]


def check_access(options: OpsOptions, authorization: str) -> None:
    """Check access to the metrics. Raises Denied, Unauthorized, or EndpointUnknown if they are off."""
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
    """Read the token each time, so that a changed file takes effect at once. Raises Denied if the file holds none."""
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        log.error("metrics_token_not_read", file=str(file), reason=error.strerror)
        token = b""
    if not token:
        raise Denied("the metrics_token_file is empty or cannot be read; the log states why")
    return token


async def _on_refusal(request: Request, error: Exception) -> Response:
    return _refused(request, error if isinstance(error, RegistryError) else RegistryError())


async def _on_database_unusable(request: Request, error: Exception) -> Response:
    return _refused(request, unusable_database())


async def _on_not_found(request: Request, error: Exception) -> Response:
    return _refused(request, unknown_path(request.url.path))


async def _on_method_not_allowed(request: Request, error: Exception) -> Response:
    return _refused(request, wrong_method(request.method))


def _refused(request: Request, error: RegistryError) -> Response:
    note_refusal(request.scope, error)
    return error_response(error)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return unexpected_response()
