"""The apps of a server: its surfaces, its addresses, and the middleware that every request passes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RegistryError
from cache.sqlite import DatabaseUnusable
from gateway import ops
from gateway.http.access_log import AccessLog, log_at_once
from gateway.http.drain import DEFAULT_DRAIN_LIMITS, DrainedRefusals, DrainLimits
from gateway.http.stalls import DEFAULT_STALL_LIMITS, StalledClients, StallLimits
from gateway.namespaces.locate import Root
from gateway.observability.access_line import AccessLine
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.server.client_connection import ConnectionInScope
from gateway.server.zerocopy import ZeroCopy
from gateway.services import Services
from gateway.settings.load import Settings
from gateway.v2 import errors
from gateway.v2.access import Options
from gateway.v2.errors import Refusals
from gateway.v2.root_selection import AtAddress, ByAddress, main_registry, registry_at
from gateway.v2.routes import RegistryApi
from gateway.wiring.from_settings import open_proxy_allowed, ops_options
from gateway.wiring.lifespan import open_services, scrubbing


@asynccontextmanager
async def running(
    settings: Settings,
    urls: Sequence[str],
    *,
    log_access: Callable[[AccessLine], None] = log_at_once,
    metrics: Metrics | None = None,
    state: ServerState | None = None,
    stalls: StallLimits = DEFAULT_STALL_LIMITS,
    drain: DrainLimits = DEFAULT_DRAIN_LIMITS,
) -> AsyncIterator[list[ASGIApp]]:
    """Open the app of the main address and those of the listeners, in their order, with all that they need.

    `urls`: the URLs by which clients reach them. The data folder must exist. Raises DatabaseUnusable.
    """
    async with open_services(settings, metrics, state) as services, scrubbing(settings, services):
        await services.directory.check()
        main, *others = [Options(url, open_proxy_allowed(settings, urls), settings.zero_copy) for url in urls]
        hosts = {host.name: Root(host.group, host.upstream) for host in settings.virtual_host}
        roots = [Root(listener.group, listener.upstream) for listener in settings.listener]
        registries = [main_registry(services, main, settings.ns_group, hosts)]
        registries += [registry_at(services, *address) for address in zip(others, roots, strict=True)]
        app = create_app(
            services,
            main,
            log_access=log_access,
            registry=ByAddress(registries) if others else registries[0],
            operations=ops_options(settings, urls),
            stalls=stalls,
            drain=drain,
        )
        yield [app, *(AtAddress(app, number) for number in range(1, len(urls)))]


def create_app(
    services: Services,
    options: Options,
    *,
    log_access: Callable[[AccessLine], None] = log_at_once,
    registry: ASGIApp | None = None,
    operations: ops.Options | None = None,
    stalls: StallLimits = DEFAULT_STALL_LIMITS,
    drain: DrainLimits = DEFAULT_DRAIN_LIMITS,
) -> ASGIApp:
    """Make the app of an address. `registry` serves /v2: by default names that begin with the path of a group."""
    app = Starlette(
        routes=ops.routes(services, operations or ops.Options()),
        exception_handlers={
            DatabaseUnusable: errors.on_database_unusable,
            RegistryError: errors.on_registry_error,
            Exception: errors.on_unexpected,
            404: errors.on_not_found,
            405: errors.on_method_not_allowed,
        },
    )
    app.router.redirect_slashes = False
    surfaces = Surfaces(Refusals(registry or RegistryApi(services, options)), app)
    metrics = services.metrics

    def count_and_log(line: AccessLine) -> None:
        metrics.note_response(line)
        log_access(line)

    access_log = AccessLog(DrainedRefusals(surfaces, drain), errors.unexpected_response, count_and_log)
    metrics.show("requests_in_progress", lambda: access_log.in_progress)
    return ConnectionInScope(ZeroCopy(StalledClients(access_log, stalls), options.zero_copy))


class Surfaces:
    """Selects the surface by the path of a request."""

    def __init__(self, registry: ASGIApp, rest: ASGIApp) -> None:
        self._registry = registry
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_registry = scope["path"].startswith("/v2") and scope["path"][3:4] in ("", "/", "\n")
        await (self._registry if is_registry else self._rest)(scope, receive, send)
