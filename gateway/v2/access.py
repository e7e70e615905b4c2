"""Opens the repository that a request names, for somebody who may."""

from collections.abc import Callable
from dataclasses import dataclass

from cache.oci.errors import Denied, NameUnknown, Unsupported
from cache.oci.names import RepositoryName
from cache.repository import FoundManifest, Repository
from gateway.auth.permissions import Action, decide_pull
from gateway.auth.principal import ANONYMOUS
from gateway.namespaces.locate import NativeLocation, ProxiedLocation, Root
from gateway.repositories import open_proxied
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class Options:
    """`external_url`: where clients reach this address, without a slash at its end. `open_proxy`: whether strangers
    may be served. `zero_copy`: whether files are sent without being read, where that is possible. `root`: whose every
    name here is; `namespace`: the `ns` that links to further pages must repeat."""

    external_url: str
    open_proxy: bool
    zero_copy: bool = True
    root: Root | None = None
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A repository, and where it lies: the path of the group and the configured name of the upstream.

    `prefetch` is to be called with each manifest that a client was given.
    """

    repository: Repository
    prefetch: Callable[[FoundManifest], None]
    group: str
    upstream: str


class Access:
    """Opens what requests to one address name; the options are those of the address."""

    def __init__(self, services: Services, options: Options) -> None:
        self._services = services
        self.options = options

    async def open_repository(self, name: RepositoryName, action: Action) -> Opened:
        """Raises NameUnknown, Denied, Unsupported."""
        location = await self._services.directory.locate(name, self.options.root)
        if isinstance(location, NativeLocation):
            raise NameUnknown(
                f"{name} is no repository here; images of upstreams are at GROUP/dependency_proxy/containers/IMAGE"
            )
        return self._open_proxied(location, action)

    def _open_proxied(self, location: ProxiedLocation, action: Action) -> Opened:
        decision = decide_pull(ANONYMOUS, location.group, open_proxy=self.options.open_proxy)
        if not decision.allowed:
            raise Denied(decision.reason)
        if action is not Action.PULL:
            raise Unsupported(f"{location.image} comes from upstream {location.upstream} and can only be pulled")
        if not self._services.upstreams.get(location.upstream).permits(location.image):
            raise Denied(f"the settings of upstream {location.upstream} do not allow {location.image}")
        image = open_proxied(location, self._services)
        return Opened(image.repository, image.prefetch, location.group.path, location.upstream)
