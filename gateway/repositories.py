"""Repositories: opens the image of a location behind the gate of its group, for requests and for maintenance."""

from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.oci.errors import Denied, RefusalReason
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import decide_image
from cache.proxy.chained import ChainedRepository
from cache.proxy.gated import GatedImage, GatedRepository
from cache.proxy.repository import ProxiedRepository
from cache.repository import HIT, FoundManifest, Repository
from cache.runtime.fair_queue import Requester
from cache.store.base import LocalBlob
from cache.values import Damage, ImageKey
from gateway.known_registries import short_names
from gateway.namespaces.locate import ProxiedLocation, canonical_name, locate_image
from gateway.namespaces.old_path import Former
from gateway.namespaces.paths import parent_path
from gateway.namespaces.project import Project
from gateway.namespaces.virtual_registry import LABEL, VirtualPlace
from gateway.registry.base import WritableRepository
from gateway.services import Services
from gateway.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class OpenedRepository:
    """A repository as its group may read it, the location of its image, and the one name of that.

    `plain`: the repository without the group's pins and cooldown. `former`: what the name was that led here, if it was
    an old one.
    """

    repository: Repository
    plain: ProxiedRepository
    location: ProxiedLocation
    path: str
    former: Former | None = None

    @property
    def group(self) -> str:
        """Path of the group."""
        return self.location.group.path

    @property
    def upstream(self) -> str:
        """Configured name of the upstream."""
        return self.location.upstream

    def prefetch(self, found: FoundManifest) -> None:
        """Begin to download what a client that received a manifest requests next, if the manifest was not cached."""
        if found.status is not HIT:  # a hit is the usual case, and needs nothing of the repository
            self.plain.blobs.prefetch(found)

    async def held_blob(self, digest: Digest) -> LocalBlob | None:
        """Open a blob that is cached and that the group may read; None for any other.

        Nothing is requested of the upstream. The caller closes the blob. Raises Denied.
        """
        if not await self.plain.blobs.holds(digest):
            return None
        found = await self.repository.blob(digest)
        if found.status is HIT and isinstance(found.blob, LocalBlob):
            return found.blob
        found.blob.close()  # it was evicted meanwhile
        return None

    async def drop_damaged(self, blob: LocalBlob, damage: Damage) -> None:
        """Take a blob that `held_blob` opened out of the cache: its bytes were read, and are damaged."""
        await self.plain.blobs.drop_damaged(blob, damage)


@dataclass(frozen=True, slots=True)
class OpenedNative:
    """A repository of a project, which may not exist before the first push, and its path. `former`: as in
    OpenedRepository."""

    repository: WritableRepository
    project: Project
    path: str
    former: Former | None = None

    @property
    def group(self) -> str:
        """Path of the group, or of the user's namespace, that holds the project."""
        return parent_path(self.project.path)

    def prefetch(self, found: FoundManifest) -> None:
        """Do nothing: all content is here."""


@dataclass(frozen=True, slots=True)
class OpenedVirtual:
    """An image of the upstreams of a virtual registry, and its name. `group`: path of the group that has it."""

    repository: ChainedRepository
    group: str
    path: str
    upstream: str = LABEL
    former: Former | None = None

    def prefetch(self, found: FoundManifest) -> None:
        """Begin to download what a client that received a manifest requests next, if the manifest was not cached."""
        if found.status is not HIT:
            self.repository.prefetch(found)


Opened = OpenedRepository | OpenedNative | OpenedVirtual


def open_virtual(
    place: VirtualPlace, image: RepositoryName, group: str, path: str, services: Services, client: str
) -> OpenedVirtual:
    """Open an image of a virtual registry; the caller has decided who may pull. `client`: as for `open_repository`."""
    requester = Requester(f"{LABEL} {place.registry.id}", client)
    chained = [
        ProxiedRepository(
            services.pull_through,
            services.virtual_clients.client(upstream),
            image,
            requester,
            ahead=bool(client),
            ttl=upstream.ttl,
        )
        for upstream in place.upstreams
    ]
    return OpenedVirtual(ChainedRepository(chained), group, path)


def open_repository(
    location: ProxiedLocation, services: Services, client: str = "", path: str = ""
) -> OpenedRepository:
    """Open the image of a location with the credential that serves its group; the caller has decided who may pull.

    `client`: name of the client, for turns among the clients of the group; empty for maintenance. `path`: the
    canonical name, where the caller knows it. Raises Denied where the settings of the upstream or the gate of the group
    refuse the image.
    """
    withholds = _withholds(location)
    plain = open_allowed_image(location, services, client, ahead=bool(client) and not withholds)
    gated = _behind_gate(plain, location, services) if withholds else plain
    return OpenedRepository(gated, plain, location, path or canonical_name(location))


def open_allowed_image(
    location: ProxiedLocation, services: Services, client: str = "", *, ahead: bool = False
) -> ProxiedRepository:
    """Open an image whose name the settings and the gate allow, without the group's pins and cooldown.

    Maintenance revalidates tags through it, whatever the group makes of them. `ahead`: as for ProxiedRepository. Raises
    Denied.
    """
    check_upstream_allows(location, services.upstreams)
    group, image = location.group, location.image
    if group.gate is not None:
        verdict = decide_image(group.gate, location.upstream, image, short_names(location.upstream, image))
        if not verdict.allowed:
            raise Denied(f"group {group.path!r}: {verdict.reason}", counted_as=RefusalReason.GATE)
    requester = Requester(group.path, client)
    upstream = services.upstreams.client(group, location.upstream)
    return ProxiedRepository(
        services.pull_through, upstream, image, requester, fresh_only=group.fresh_only, ahead=ahead
    )


def check_upstream_allows(location: ProxiedLocation, upstreams: Upstreams) -> None:
    """Check that the settings of an upstream allow the image. Raises Denied."""
    if not upstreams.get(location.upstream).permits(location.image):
        reason = f"the settings of upstream {location.upstream} do not allow {location.image}"
        raise Denied(reason, counted_as=RefusalReason.UPSTREAM_RULE)


async def find_image(name: str, group: str, services: Services) -> ProxiedLocation:
    """Locate `[UPSTREAM/]NAME` below a group of the directory. Raises NameInvalid, NameUnknown, DatabaseUnusable."""
    found = await services.directory.find_group(group)
    return locate_image(name, group, {} if found is None else {group: found}, services.upstreams.names)


def image_key(location: ProxiedLocation, reference: Tag | Digest | None, upstreams: Upstreams) -> ImageKey:
    """The key of the image that a location leads to, for the group's credential; the cache is not consulted."""
    return ImageKey(upstreams.source(location.group, location.upstream), location.image, reference)


def _withholds(location: ProxiedLocation) -> bool:
    """Whether the group has pins for the image, or a cooldown, so that it may refuse what the upstream serves."""
    gate = location.group.gate
    return gate is not None and bool(gate.pins_of(location.upstream, location.image) or gate.cooldown)


def _behind_gate(plain: ProxiedRepository, location: ProxiedLocation, services: Services) -> Repository:
    """Wrap a repository in its group's pins and cooldown."""
    gate = location.group.gate
    assert gate is not None, "a group without a gate withholds nothing"
    pins = gate.pins_of(location.upstream, location.image)
    image = GatedImage(services.upstreams.source(location.group, location.upstream), location.image, pins)
    return GatedRepository(plain, gate, image, services.pull_through, services.index)
