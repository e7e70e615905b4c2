"""The apps of a server: its surfaces, its addresses, and the middleware that every request passes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from ipaddress import ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.app import RestApi
from gateway.api.errors import ApiErrors
from gateway.api.graphql.app import PATH as GRAPHQL
from gateway.api.graphql.app import GraphqlApi
from gateway.api.options import ApiOptions
from gateway.api.rate_limits import RateLimits
from gateway.auth.authenticator import CLIENT_ADDRESS
from gateway.data_folder import NativeFolder, server_name
from gateway.http.access_log import AccessLog, log_at_once
from gateway.http.client_address import ClientAddress, Network
from gateway.http.drain import DEFAULT_DRAIN_LIMITS, DrainedRefusals, DrainLimits
from gateway.http.errors import not_found, unexpected_response
from gateway.http.own_hosts import OwnHosts
from gateway.http.own_requests import OwnRequests
from gateway.http.request_turns import RequestTurns
from gateway.http.sandbox import Sandbox
from gateway.http.stalls import DEFAULT_STALL_LIMITS, StalledClients, StallLimits
from gateway.maintenance.repeated_pulls import PullMemory, RepeatedPulls
from gateway.namespaces.locate import Root
from gateway.observability.access_line import AccessLine
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.ops import DEFAULT_OPS_OPTIONS, PROBED, OpsOptions, ops_app
from gateway.server.client_connection import ConnectionInScope
from gateway.server.zerocopy import ZeroCopy
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.v2.errors import ErrorRendering
from gateway.v2.gitlab.app import GitlabApi
from gateway.v2.gitlab.endpoint import BASE as GITLAB
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from gateway.v2.root_selection import RootSelection, RootTable, address_roots, at_listener, is_main_address, root_table
from gateway.v2.routes import RegistryApi
from gateway.v2.token import TokenApi
from gateway.web.app import OWN_PAGES, WebApp
from gateway.web.options import WebOptions
from gateway.wiring.bulk_deletion import deleting_in_bulk
from gateway.wiring.checks import checking_suspects, scrubbing
from gateway.wiring.cleanup import cleaning
from gateway.wiring.from_settings import api_options, ops_options, rate_options, web_options
from gateway.wiring.group_caches import purging
from gateway.wiring.lifespan import open_services
from gateway.wiring.native import collecting, logging_commands, scrubbing_native, sweeping_uploads
from gateway.wiring.pull_addresses import pull_addresses
from gateway.wiring.reach import open_proxy_allowed, own_hosts
from gateway.wiring.upstream_checks import checking_upstreams
from gateway.wiring.webhooks import telling_webhooks


@asynccontextmanager
async def running(
    settings: Settings,
    urls: Sequence[str],
    *,
    log_access: Callable[[AccessLine], None] = log_at_once,
    metrics: Metrics | None = None,
    server_state: ServerState | None = None,
    stalls: StallLimits = DEFAULT_STALL_LIMITS,
    drain: DrainLimits = DEFAULT_DRAIN_LIMITS,
    check_upstreams: bool = False,
    pull_memory: PullMemory | None = None,
) -> AsyncIterator[list[ASGIApp]]:
    """Open the app of the main address and those of the listeners, in their order, with all that they need.

    `urls`: the URLs by which clients reach them. `check_upstreams`: whether to find out at once which upstreams can be
    reached. `pull_memory`: what the processes of a server know together. The data folder must exist. Raises
    DatabaseUnusable.
    """
    async with (
        open_services(settings, metrics, server_state) as services,
        scrubbing(settings, services),
        sweeping_uploads(services.native),
        scrubbing_native(
            NativeFolder(settings.data),
            services.native,
            settings.cache.scrub_rate.number,
            services.metrics.count_native_damage,
            services.server_state.closed,
        ),
        collecting(
            NativeFolder(settings.data),
            services.native,
            settings.gc,
            services.metrics,
            services.server_state.closed,
        ),
        cleaning(services),
        deleting_in_bulk(services),
        purging(services),
        telling_webhooks(services, settings.registry_url or urls[0]),
        logging_commands(NativeFolder(settings.data), services.server_state.closed),
        checking_upstreams(services) if check_upstreams else nullcontext(),
        checking_suspects(settings, services, pull_memory or PullMemory()) as repeated,
    ):
        await services.directory.check()
        main_url, *other_urls = urls
        listeners = [Root(listener.group, listener.upstream) for listener in settings.listener]
        roots = root_table(
            settings.registry_url or main_url,
            {name: upstream.url for name, upstream in settings.upstreams.items()},
            settings.ns_group,
            {host.name: Root(host.group, host.upstream) for host in settings.virtual_host},
            zip(other_urls, listeners, strict=True),
            [main_url],
        )
        app = create_app(
            services,
            roots,
            RegistryOptions(open_proxy_allowed(settings, urls), settings.native.create_on_push),
            ops_options(settings, urls),
            is_own_host=own_hosts(settings, urls),
            zero_copy=settings.zero_copy,
            trusted_proxies=[ip_network(network) for network in settings.trusted_proxies],
            log_access=log_access,
            stalls=stalls,
            drain=drain,
            repeated=repeated,
            rest=api_options(
                main_url, settings.registry_url or main_url, settings.names.old_paths, rate_options(settings)
            ),
            pages=web_options(
                main_url,
                settings.registry_url or main_url,
                settings.names.old_paths,
                insecure_login=settings.insecure_login,
                ns_group=settings.ns_group,
                addresses=pull_addresses(settings, urls),
            ),
        )
        yield [app, *(at_listener(app, number) for number in range(1, len(urls)))]


def create_app(
    services: Services,
    roots: RootTable,
    registry: RegistryOptions,
    operations: OpsOptions = DEFAULT_OPS_OPTIONS,
    *,
    is_own_host: Callable[[str], bool] | None = None,
    zero_copy: bool = True,
    trusted_proxies: Sequence[Network] = (),
    log_access: Callable[[AccessLine], None] = log_at_once,
    stalls: StallLimits = DEFAULT_STALL_LIMITS,
    drain: DrainLimits = DEFAULT_DRAIN_LIMITS,
    repeated: RepeatedPulls | None = None,
    rest: ApiOptions | None = None,
    pages: WebOptions | None = None,
) -> ASGIApp:
    """Make the app of all addresses.

    `is_own_host`: whether requests for a host name are served; None: for every name. `zero_copy`: whether files are
    sent without being read, where that is possible. `repeated`: who is told of pulls of whole blobs. `rest`, `pages`:
    None for those that follow from the URL of the main address.
    """
    opener = RepositoryOpener(services, registry)
    options = rest or api_options(roots.main.own.url, roots.main.own.url)
    limits = RateLimits(options.rates)
    surfaces: ASGIApp = Surfaces(
        Sandbox(ErrorRendering(RootSelection(RegistryApi(services, opener, repeated), roots))),
        Sandbox(ErrorRendering(TokenApi(services, opener, roots))),
        Sandbox(ErrorRendering(GitlabApi(services, opener, roots, registry, options.old_paths))),
        ApiErrors(RestApi(services, options, limits)),
        ApiErrors(GraphqlApi(services, options, limits)),
        Sandbox(ops_app(services, operations)),
        WebApp(services, pages or web_options(roots.main.own.url, roots.main.own.url), not_found),
        not_found,
        roots,
    )
    if is_own_host is not None:
        surfaces = OwnHosts(surfaces, is_own_host)
    surfaces = OwnRequests(surfaces, server_name(services.folder.data))
    metrics = services.metrics

    def count_and_log(line: AccessLine) -> None:
        metrics.note_response(line)
        if line.path not in PROBED or line.status >= 400:
            log_access(line)

    access_log = AccessLog(RequestTurns(surfaces, _kind_of), unexpected_response, count_and_log)
    metrics.show("requests_in_progress", lambda: access_log.in_progress)
    watched = StalledClients(DrainedRefusals(access_log, drain), stalls)
    return ConnectionInScope(ZeroCopy(ClientAddress(watched, trusted_proxies, CLIENT_ADDRESS), zero_copy))


def _kind_of(path: str) -> str:
    """The kind of a request, of which a flood leaves the others their turns."""
    if path.startswith("/v2/"):
        return "" if len(path) > len("/v2/") else "ping"
    return next((prefix for prefix in ("/-/", "/jwt/", "/api/", GITLAB) if path.startswith(prefix)), "other")


_NO_PAGES = ("/api/", "/jwt", "/v2")
"""Beginnings of paths that clients of other surfaces may mistype: no browser comes there."""


class Surfaces:
    """Selects the surface by the path of a request."""

    def __init__(
        self,
        registry: ASGIApp,
        tokens: ASGIApp,
        gitlab: ASGIApp,
        rest: ASGIApp,
        graphql: ASGIApp,
        operations: ASGIApp,
        pages: ASGIApp,
        none: ASGIApp,
        roots: RootTable,
    ) -> None:
        """`gitlab`, `rest`, `graphql` and `pages` serve the main address alone: others belong to one upstream. `none`
        serves paths that belong to no surface."""
        self._registry = registry
        self._tokens = tokens
        self._gitlab = gitlab
        self._rest = rest
        self._graphql = graphql
        self._operations = operations
        self._pages = pages
        self._none = none
        self._roots = roots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith("/v2") and path[3:4] in ("", "/", "\n"):
            await self._registry(scope, receive, send)
        elif path.startswith("/jwt/"):
            await self._tokens(scope, receive, send)
        elif (path.startswith(GITLAB) or f"{path}/" == GITLAB) and is_main_address(scope):
            await self._gitlab(scope, receive, send)
        elif path == GRAPHQL and is_main_address(scope):
            await self._graphql(scope, receive, send)
        elif path.startswith("/api/") and is_main_address(scope):
            await self._rest(scope, receive, send)
        elif path.startswith("/-/") and not path.startswith(OWN_PAGES):
            await self._operations(scope, receive, send)
        elif address_roots(scope, self._roots) is self._roots.main and not path.startswith(_NO_PAGES):
            await self._pages(scope, receive, send)
        else:
            await self._none(scope, receive, send)
