"""RepositoryOpener: opens the repository that a request names, for a principal that may use it."""

from dataclasses import dataclass

from cache.oci.errors import Denied, NameUnknown, Unsupported
from cache.oci.names import RepositoryName
from gateway.auth.client_name import client_name
from gateway.auth.matrix import Action
from gateway.auth.permissions import DependencyProxyTarget, Refusal, decide
from gateway.auth.principal import Principal
from gateway.namespaces.locate import NativeLocation, Root
from gateway.namespaces.paths import proxied_name
from gateway.repositories import OpenedRepository, open_repository
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options of the registry's surface. `open_proxy`: whether anonymous clients beyond this machine may be served."""

    open_proxy: bool


class RepositoryOpener:
    """Opens repositories, for each request anew; only the location of a name is remembered, in the directory.

    The steps, each of which may refuse the request:

    1. `directory.locate`: the group, the upstream and the image that the name means (NameUnknown).
    2. `decide`: whether the principal may do this to the image (Denied), and whether anybody may (Unsupported).
    3. The settings of the upstream allow the image (Denied).
    4. The gate of the group allows the image's name (Denied).
    5. The repository is opened, behind the group's pins and cooldown.

    The last three are those of `open_repository`.
    """

    def __init__(self, services: Services, options: RegistryOptions) -> None:
        self._services = services
        self._options = options

    async def open(
        self, name: RepositoryName, principal: Principal, action: Action, root: Root | None, address: str = ""
    ) -> OpenedRepository:
        """Open the repository that a name leads to below a root, or by itself.

        `address`: of the client, which stands for a principal without a name. Raises NameUnknown, Denied, Unsupported.
        """
        location = await self._services.directory.locate(name, root)
        if isinstance(location, NativeLocation):
            raise NameUnknown(
                f"{name} is not a repository of this server; "
                f"images of upstreams are at {proxied_name('GROUP', 'IMAGE')}"
            )
        target = DependencyProxyTarget(name.text, location.group, (), self._options.open_proxy)
        decision = decide(principal, action, target, self._services.clock())
        if decision.refusal is Refusal.UNSUPPORTED:
            raise Unsupported(f"{location.image} comes from upstream {location.upstream}: {decision.reason}")
        if decision.refusal is Refusal.LOGIN:
            raise Denied(f"group {location.group.path!r} requires a login, which this server does not offer yet")
        if not decision.allowed:
            raise Denied(decision.reason)
        return open_repository(location, self._services, principal.name or client_name(address))
