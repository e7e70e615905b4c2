"""The apps of a server: which surfaces there are, at which addresses, and what every request passes on its way."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RegistryError
from cache.sqlite import DatabaseUnusable
from gateway import ops
from gateway.http.access_log import AccessLog, log_at_once
from gateway.http.drain import DrainedRefusals
from gateway.http.stalls import StalledClients
from gateway.namespaces.locate import Root
from gateway.observability.access_line import AccessLine
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.server.connection import KnownConnection
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
    log_access: Callable[[AccessLine], None] = log_at_once,
    metrics: Metrics | None = None,
    process: ServerState | None = None,
) -> AsyncIterator[list[ASGIApp]]:
    """The app of the main address and those of the listeners, in their order, with all that they live on.

    `urls`: under which clients reach each of these. The data folder must have been made. Raises DatabaseUnusable.
    """
    async with open_services(settings, metrics, process) as services, scrubbing(settings, services):
        await services.directory.check()
        main, *others = [Options(url, open_proxy_allowed(settings, urls), settings.zero_copy) for url in urls]
        hosts = {host.name: Root(host.group, host.upstream) for host in settings.virtual_host}
        roots = [Root(listener.group, listener.upstream) for listener in settings.listener]
        registries = [main_registry(services, main, settings.ns_group, hosts)]
        registries += [registry_at(services, *address) for address in zip(others, roots, strict=True)]
        app = create_app(
            services, main, log_access, ByAddress(registries) if others else registries[0], ops_options(settings, urls)
        )
        yield [app, *(AtAddress(app, number) for number in range(1, len(urls)))]


def create_app(
    services: Services,
    options: Options,
    log_access: Callable[[AccessLine], None] = log_at_once,
    registry: ASGIApp | None = None,
    for_operators: ops.Options | None = None,
) -> ASGIApp:
    """`registry` answers below /v2: by default for the names that say by themselves where they lead."""
    app = Starlette(
        routes=ops.routes(services, for_operators or ops.Options()),
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

    def note(line: AccessLine) -> None:
        metrics.note_answer(line)
        log_access(line)

    access_log = AccessLog(DrainedRefusals(surfaces), errors.unexpected_response, note)
    metrics.show("requests_in_progress", lambda: access_log.in_progress)
    return KnownConnection(ZeroCopy(StalledClients(access_log), options.zero_copy))


class Surfaces:
    """Which surface a path belongs to."""

    def __init__(self, registry: ASGIApp, rest: ASGIApp) -> None:
        self._registry = registry
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_registry = scope["path"].startswith("/v2") and scope["path"][3:4] in ("", "/", "\n")
        await (self._registry if is_registry else self._rest)(scope, receive, send)
