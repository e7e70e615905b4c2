"""Opens the repository that a request names, for somebody who may."""

from dataclasses import dataclass

from starlette.requests import Request

from cache.oci.errors import Denied, NameUnknown, Unsupported
from cache.oci.names import RepositoryName
from cache.proxy import ProxiedRepository
from gateway.auth.permissions import Action, decide_pull
from gateway.auth.principal import ANONYMOUS
from gateway.namespaces import NativeLocation, ProxiedLocation
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class Options:
    """`external_url`: where clients reach this server, without a slash at its end. `open_proxy`: whether strangers
    may be served."""

    external_url: str
    open_proxy: bool


class Access:
    def __init__(self, services: Services, options: Options) -> None:
        self._services = services
        self.options = options
        self.metrics = services.metrics

    async def open_repository(self, request: Request, action: Action) -> ProxiedRepository:
        """Raises NameUnknown, Denied, Unsupported."""
        name: RepositoryName = request.path_params["name"]
        await self._services.namespaces.refresh_if_changed()
        location = self._services.namespaces.locate(name)
        if isinstance(location, NativeLocation):
            raise NameUnknown(
                f"{name} is no repository here; images of upstreams are at GROUP/dependency_proxy/containers/IMAGE"
            )
        return self._open_proxied(location, action)

    def _open_proxied(self, location: ProxiedLocation, action: Action) -> ProxiedRepository:
        decision = decide_pull(ANONYMOUS, location.group, open_proxy=self.options.open_proxy)
        if not decision.allowed:
            raise Denied(decision.reason)
        if action is not Action.PULL:
            raise Unsupported("images below dependency_proxy/containers come from an upstream and can only be pulled")
        if not self._services.upstreams.get(location.upstream).permits(location.image):
            raise Denied(f"the settings of upstream {location.upstream} do not allow {location.image}")
        client = self._services.upstreams.client(location.group, location.upstream)
        return ProxiedRepository(self._services.pull_through, client, location.image)
