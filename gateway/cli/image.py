"""IMAGE: what the words of a command name, and the repository below a group that they lead to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName, Tag, parse_reference
from cache.proxy.repository import ProxiedRepository
from gateway.cli.folder import open_existing
from gateway.cli.output import Refused
from gateway.namespaces.locate import ProxiedLocation
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.observability import logs
from gateway.repositories import behind_gate
from gateway.services import Services
from gateway.settings.load import Settings
from gateway.wiring.lifespan import open_services


@asynccontextmanager
async def open_image(
    settings: Settings, text: str, group: str
) -> AsyncIterator[tuple[ProxiedLocation, Tag | Digest | None, ProxiedRepository]]:
    """The image with the group's credential, opened in this process, beside a running server or without one. The gate
    of the group is asked about its name alone.

    Raises Refused, also for what goes wrong inside.
    """
    async with open_existing(settings.data):
        pass
    logs.configure(settings.log_format)
    try:
        name, reference = split_image(text)
        async with open_services(settings) as services:
            location = await locate_image(services, name, group)
            client = services.upstreams.client(location.group, location.upstream)
            repository = ProxiedRepository(services.pull_through, client, location.image)
            behind_gate(repository, location, services)
            yield location, reference, repository
    except RegistryError as error:
        raise Refused(str(error)) from error


async def locate_image(services: Services, name: str, group: str) -> ProxiedLocation:
    """Raises RegistryError for what is none, Refused for what the settings do not allow."""
    location = await services.directory.locate(RepositoryName.parse(f"{group}{PROXY_SEPARATOR}{name}"))
    if not isinstance(location, ProxiedLocation):
        raise Refused(f"{name} is no image of an upstream")
    if not services.upstreams.get(location.upstream).permits(location.image):
        raise Refused(f"the settings of upstream {location.upstream} do not allow {location.image}")
    return location


def split_image(text: str) -> tuple[str, Tag | Digest | None]:
    """Name and reference of `NAME[:TAG|@DIGEST]`; with both the digest counts, as it does for clients."""
    name, at, digest = text.partition("@")
    name, _, tag = name.partition(":")
    return name, parse_reference(digest) if at else (Tag.parse(tag) if tag else None)
