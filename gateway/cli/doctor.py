"""`doctor`: looks for what is wrong with an installation, and says what to do about it."""

import asyncio
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cache.index.admin import CacheAdmin
from cache.index.sql import MIGRATIONS
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName, Tag
from cache.sqlite import DatabaseUnusable, migrate
from cache.store.filesystem import FilesystemStore
from cache.upstream.registry_client import RegistryClient
from gateway import docker_hub
from gateway.cli.config import load_settings
from gateway.cli.folder import open_existing
from gateway.cli.output import AsJson, ConfigFile, DataFolder, Refused, print_json, print_table
from gateway.data_folder import CacheFolder
from gateway.db import groups
from gateway.doctor.check import Check, failed, not_run, passed
from gateway.doctor.clients import MANNERS, Target, replay_all, unreadiness
from gateway.doctor.machine import examine_machine
from gateway.doctor.upstreams import Sample, examine_clock, examine_upstream
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.namespaces.group import HUB, Group
from gateway.namespaces.locate import ProxiedLocation, locate
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.settings.load import Settings, SettingsError
from gateway.upstreams import Upstreams
from gateway.wiring.from_settings import configured_upstreams

LATEST = Tag("latest")

ImageOption = Annotated[
    str | None,
    typer.Option("--image", metavar="IMAGE", help="Pull this one; without it something that is cached."),
]
GroupOption = Annotated[str, typer.Option("--group", metavar="G", help="The group below which it is pulled.")]


def doctor(
    image: ImageOption = None,
    group: GroupOption = HUB,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, data folder, clock, upstreams, credentials and quota, and pull from the running server as docker,
    containerd, podman and buildkit do. Exit code 1 if anything failed."""
    checks = examine(image, group, config, data)
    if as_json:
        print_json([check.document() for check in checks])
    else:
        said = {True: "ok", False: "FAILED", None: "not run"}
        rows = [(said[c.ok], c.name, c.detail + (f"; {c.remedy}" if c.remedy else "")) for c in checks]
        print_table(["", "Check", "Found; what to do"], rows)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def examine(image: str | None, group: str, config: Path | None, data: str | None) -> list[Check]:
    try:
        settings = load_settings(config, data)
    except SettingsError as error:
        remedy = "correct it; `config show` tells where each value came from"
        return [failed("settings", problem, remedy) for problem in error.problems]
    checks = [passed("settings", f"valid, from {config or 'defaults and the environment'}")]
    if not settings.data.is_dir():
        why = f"there is no data folder {settings.data.absolute()}"
        return [*checks, failed("data folder", why, "name the right one with --data, or make it with `serve`")]
    checks += examine_machine(settings.data)
    try:
        folder = asyncio.run(Folder.read(settings))
    except (DatabaseUnusable, Refused) as error:
        return [*checks, failed("databases", str(error), "restore it, or look at its owner and its disk")]
    checks.append(passed("databases", f"{len(folder.groups)} groups, {len(folder.pointers)} cached tags"))
    target: Target | None = None
    try:
        target = folder.named(image, group) if image else folder.cached()
    except RegistryError as error:
        checks.append(failed("image", str(error), "give --image [UPSTREAM/]NAME[:TAG|@DIGEST] below --group"))
    checks += asyncio.run(_examine_upstreams(folder, target if image else None))
    return checks + _examine_server(settings, target, image)


class Folder:
    """What the data folder says about whom there is to ask for what."""

    def __init__(self, settings: Settings, tree: dict[str, Group]) -> None:
        self.settings = settings
        self.groups = tree
        cache = CacheFolder(settings.data)
        migrate(cache.index, MIGRATIONS)
        self.inventory = CacheAdmin(cache.index)
        self.pointers = self.inventory.pointers()
        self.store = FilesystemStore(cache.blobs)
        self.upstreams = Upstreams(configured_upstreams(settings), Sealer(settings.data / KEYS_DIRECTORY))

    @classmethod
    async def read(cls, settings: Settings) -> "Folder":
        """Raises DatabaseUnusable, Refused."""
        async with open_existing(settings.data) as database, database.read() as connection:
            return cls(settings, {group.path: group for group in await groups.list_all(connection)})

    def named(self, text: str, group: str) -> Target:
        """What was named on the command line. Raises RegistryError."""
        name, at, digest = text.partition("@")
        name, _, tag = name.partition(":")
        location = locate(RepositoryName.parse(f"{group}{PROXY_SEPARATOR}{name}"), self.groups, self.upstreams.names)
        if not isinstance(location, ProxiedLocation):
            raise AssertionError("a name with the separator in it is proxied")
        reference = Digest.parse(digest) if at else Tag.parse(tag) if tag else LATEST
        return Target(_name_of(location.group, location.upstream, location.image), location.upstream, reference)

    def cached(self) -> Target | None:
        """Something that is here and that everybody may pull, None where there is nothing."""
        for group in self.groups.values():
            if not (group.proxy_enabled and group.anonymous_pull):
                continue
            for upstream in self.upstreams.names:
                source = self.upstreams.source(group, upstream)
                for pointer in self.pointers:
                    if pointer.source == source and self.inventory.manifest(pointer.target.digest):
                        name = _name_of(group, upstream, pointer.image)
                        return Target(name, upstream, pointer.tag, self._is_here)
        return None

    def sample(self, upstream: str, named: Target | None) -> Sample | None:
        """The image by which an upstream is tried: the one that was named, one that was pulled, or one that is known
        to be there."""
        if named is not None and named.upstream == upstream:
            image = named.name.partition(PROXY_SEPARATOR)[2].partition("/")[2]
            return Sample(RepositoryName(image), named.reference)
        origins = {self.upstreams.source(group, upstream).origin for group in self.groups.values()}
        for pointer in self.pointers:
            if pointer.source.origin in origins:
                return Sample(pointer.image, pointer.tag)
        return Sample(docker_hub.SAMPLE_IMAGE, LATEST) if upstream == docker_hub.NAME else None

    def clients(self, upstream: str) -> list[RegistryClient]:
        """One for each credential with which the groups ask this upstream."""
        asking = [group for group in self.groups.values() if group.proxy_enabled]
        clients = {self.upstreams.source(group, upstream): group for group in asking}
        return [self.upstreams.primary(group, upstream) for group in clients.values()]

    def _is_here(self, descriptor: Descriptor) -> bool:
        digest = descriptor.digest
        if descriptor.is_manifest:
            return self.inventory.manifest(digest) is not None
        return self.store.stat(digest) is not None


def _name_of(group: Group, upstream: str, image: RepositoryName) -> str:
    return f"{group.path}{PROXY_SEPARATOR}{upstream}/{image}"


async def _examine_upstreams(folder: Folder, named: Target | None) -> list[Check]:
    checks, skews = [], []
    try:
        for name in folder.upstreams.names:
            if not (clients := folder.clients(name)):
                checks.append(not_run(f"upstream {name}", "no group has its dependency proxy on"))
                continue
            sample = folder.sample(name, named)
            examined = await examine_upstream(folder.upstreams.get(name), clients, sample, lambda: datetime.now(UTC))
            checks += examined.checks
            skews.append(examined.skew)
    finally:
        await folder.upstreams.close()
    return [examine_clock(skews), *checks]


def _examine_server(settings: Settings, target: Target | None, image: str | None) -> list[Check]:
    replays = [f"pull as {manner.name}" for manner in MANNERS]
    addresses = _addresses(settings)
    certificate = str(settings.tls_cert) if settings.tls_cert else None
    if not addresses:
        why = f"no server runs over {settings.data.absolute()}: start it with `serve`"
        return [not_run(name, why) for name in ("server", *replays)]
    troubles = {address: unreadiness(address, certificate) for address in addresses}
    url = next((address for address, trouble in troubles.items() if trouble is None), None)
    if url is None:
        remedy = "see the server's log; if it was killed, start it again"
        said = "; ".join(trouble for trouble in troubles.values() if trouble)
        return [failed("server", said, remedy), *(not_run(name, "the server is not ready") for name in replays)]
    ready = passed("server", f"{url} is ready")
    if target is None:
        why = "no such image can be pulled" if image else "nothing is cached that everybody may pull: give --image"
        return [ready, *(not_run(name, why) for name in replays)]
    return [ready, *replay_all(url, certificate, target)]


def _addresses(settings: Settings) -> list[str]:
    """Where the server over this data folder says that it is reached, and where it listens; none where none runs."""
    try:
        run = json.loads((settings.data / "run.json").read_text())
        with suppress(PermissionError):  # it lives, and is somebody else's
            os.kill(int(run["pid"]), 0)
        told = str(run["addresses"][0])  # the others are listeners, where names are not below a group
    except (OSError, ValueError, LookupError, TypeError):
        return []
    scheme = "https" if settings.tls_cert else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    own = [f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"]
    return list(dict.fromkeys([told, *(own if settings.port else [])]))
