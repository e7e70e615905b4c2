"""Access: opens the repository that a request names, for a principal that may use it."""

from collections.abc import Callable
from dataclasses import dataclass

from cache.oci.errors import Denied, NameUnknown, Unsupported
from cache.oci.names import RepositoryName
from cache.repository import FoundManifest, Repository
from gateway.auth.permissions import Action, DependencyProxyTarget, decide
from gateway.auth.principal import Principal
from gateway.namespaces.locate import NativeLocation, ProxiedLocation, Root
from gateway.repositories import open_proxied
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options of the registry's surface. `open_proxy`: whether strangers may be served."""

    open_proxy: bool


@dataclass(frozen=True, slots=True)
class OpenedRepository:
    """A repository, the path of its group and the configured name of its upstream.

    `prefetch` is to be called with each manifest that a client was given.
    """

    repository: Repository
    prefetch: Callable[[FoundManifest], None]
    group: str
    upstream: str


class Access:
    """Locates, decides and opens for each request anew; only the location of a name is remembered, in the directory."""

    def __init__(self, services: Services, options: RegistryOptions) -> None:
        self._services = services
        self._options = options

    async def open_repository(
        self, name: RepositoryName, principal: Principal, action: Action, root: Root | None
    ) -> OpenedRepository:
        """Open the repository that a name leads to below a root, or by itself.

        Raises NameUnknown, Denied, Unsupported.
        """
        location = await self._services.directory.locate(name, root)
        if isinstance(location, NativeLocation):
            raise NameUnknown(
                f"{name} is no repository here; images of upstreams are at GROUP/dependency_proxy/containers/IMAGE"
            )
        self._check(location, principal)
        if action is not Action.PULL:
            raise Unsupported(f"{location.image} comes from upstream {location.upstream} and can only be pulled")
        image = open_proxied(location, self._services)
        return OpenedRepository(image.repository, image.prefetch, location.group.path, location.upstream)

    def _check(self, location: ProxiedLocation, principal: Principal) -> None:
        """Check that the principal may pull the image; only then is it told what else may be done. Raises Denied."""
        target = DependencyProxyTarget(location.group, self._options.open_proxy)
        decision = decide(principal, Action.PULL, target, self._services.clock())
        if not decision.allowed:
            raise Denied(decision.reason)
        if not self._services.upstreams.get(location.upstream).permits(location.image):
            raise Denied(f"the settings of upstream {location.upstream} do not allow {location.image}")
