"""Client configuration of a group: the files with which clients pull through its dependency proxy, ready to copy."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from gateway.inspection.client_files import (
    Client,
    ClientFile,
    ClientRoute,
    ClientUnsupported,
    ServerUrl,
    client_file,
)
from gateway.known_registries import canonical_name
from gateway.services import Services
from gateway.web.page_places import PagePlaces, ProxyPage
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

NAMES = {
    Client.DOCKER: "Docker",
    Client.CONTAINERD: "containerd",
    Client.PODMAN: "Podman, Buildah, Skopeo",
    Client.CRIO: "CRI-O",
    Client.BUILDKIT: "BuildKit",
    Client.GITLAB_CI: "GitLab CI/CD",
}
"""What people call the clients."""


@dataclass(frozen=True, slots=True)
class ShownFile:
    """The file of a client; None with the `problem` where this server cannot serve it by a file."""

    client: Client
    file: ClientFile | None
    problem: str = ""

    @property
    def name(self) -> str:
        return NAMES[self.client]


class ClientFilesPage:
    """Handler of the configuration of clients."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._upstreams = services.upstreams
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", "/groups/{group:path}/-/dependency_proxy/clients", self.clients)]

    async def clients(self, visit: Visit) -> Response:
        """Show the file of every client, for one upstream."""
        page, known = await self._places.proxy(visit), self._upstreams.names
        default = canonical_name(page.group.default_upstream)
        wanted = visit.query.one("upstream")
        upstream = wanted if wanted in known else default
        route = self._route(page, upstream, falls_back=not visit.query.has("no_fallback"))
        return self._pages.show(
            visit,
            "proxy_clients.html",
            f"Client configuration · {page.group.path}",
            page=page,
            group=page.group,
            upstream=upstream,
            upstreams=known,
            route=route,
            files=[_shown(client, route) for client in Client],
        )

    def _route(self, page: ProxyPage, upstream: str, *, falls_back: bool) -> ClientRoute:
        options, path = self._pages.options, page.group.path
        address = options.addresses.get((path, upstream))
        return ClientRoute(
            main=ServerUrl(options.url),
            root=None if address is None else ServerUrl(address),
            group=path,
            upstream=upstream,
            by_ns=path == options.ns_group,
            is_default=upstream == canonical_name(page.group.default_upstream),
            falls_back=falls_back,
        )


def _shown(client: Client, route: ClientRoute) -> ShownFile:
    try:
        return ShownFile(client, client_file(client, route))
    except ClientUnsupported as error:
        return ShownFile(client, None, str(error))
