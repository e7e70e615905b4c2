"""Access: opens the repository that a request names, for a principal that may use it."""

from dataclasses import dataclass

from cache.oci.errors import Denied, NameUnknown, Unsupported
from cache.oci.names import RepositoryName
from gateway.auth.permissions import Action, DependencyProxyTarget, decide
from gateway.auth.principal import Principal
from gateway.namespaces.locate import NativeLocation, ProxiedLocation, Root
from gateway.repositories import OpenedRepository, open_repository
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options of the registry's surface. `open_proxy`: whether anonymous clients beyond this machine may be served."""

    open_proxy: bool


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
        opened = open_repository(location, principal, self._services)
        if action is not Action.PULL:
            raise Unsupported(f"{location.image} comes from upstream {location.upstream} and can only be pulled")
        return opened

    def _check(self, location: ProxiedLocation, principal: Principal) -> None:
        """Check that the principal may pull the image, before any other error reveals something about it. Raises
        Denied."""
        target = DependencyProxyTarget(location.group, self._options.open_proxy)
        decision = decide(principal, Action.PULL, target, self._services.clock())
        if not decision.allowed:
            raise Denied(decision.reason)
