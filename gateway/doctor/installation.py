"""Installation checks: pull images of the data folder from upstreams and the running server."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from cache.index.admin import CacheAdmin
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.store.base import BlobStore, is_stored
from cache.upstream.registry_client import RegistryClient
from cache.values import Source, TagPointer
from gateway import known_registries
from gateway.doctor.check import Check, Remedy, failed, not_run, passed, warned
from gateway.doctor.clients import PROFILES, PullTarget, replay_all, unreadiness
from gateway.doctor.upstreams import Sample, examine_clock, examine_upstream
from gateway.namespaces.group import HUB, Group
from gateway.namespaces.locate import ProxiedLocation
from gateway.namespaces.node import Visibility
from gateway.namespaces.paths import proxied_name, split_proxied_name
from gateway.upstreams import Upstreams

_LATEST = Tag("latest")


class Installation:
    """The groups, upstreams and cached tags of a data folder, read once. Blocks. Raises DatabaseUnusable."""

    def __init__(self, groups: Collection[Group], upstreams: Upstreams, admin: CacheAdmin, store: BlobStore) -> None:
        self._groups = groups
        self._upstreams = upstreams
        self._admin = admin
        self._store = store
        self._pointers = admin.pointers()

    def summary(self) -> Check:
        """The check that passed when the databases were read, and how much they hold."""
        return passed("databases", f"groups: {len(self._groups)}, cached tags: {len(self._pointers)}")

    def examine_accounts(self) -> list[Check]:
        """Warn of accounts by which everybody may pull."""
        return [
            warned(
                f"account of group {one.group} at {one.upstream}", f"{one.reason} ({one.setting})", Remedy.CLOSE_GROUP
            )
            for one in self._upstreams.open_accounts(self._groups)
        ]

    def refusing(self) -> list[str]:
        """Whatever refuses images by their name or age, in words: gates of groups, rules of upstreams."""
        gates = [f"the gate of group {group.path}" for group in self._groups if group.gate and group.proxy_enabled]
        upstreams = [self._upstreams.get(name) for name in self._upstreams.names]
        return gates + [f"the settings of {each.name}" for each in upstreams if each.deny or each.allow != ("*",)]

    def target(self, location: ProxiedLocation, reference: Tag | Digest | None) -> PullTarget:
        """The target for an image that a person named; its tag is `latest` without a reference."""
        name = _repository_name(location.group, location.upstream, location.image)
        hidden = location.group.visibility is not Visibility.PUBLIC
        return PullTarget(name, location.upstream, reference or _LATEST, requires_login=hidden)

    def has_group(self, path: str) -> bool:
        return any(group.path == path for group in self._groups)

    def cached_target(self, only: str | None = None) -> PullTarget | None:
        """A cached image that everybody may pull, whatever its age; None where there is none. `only`: through the group
        of this path; else `hub` is preferred."""
        for group in sorted(self._groups, key=lambda group: group.path != HUB):
            if not (group.proxy_enabled and group.anonymous_pull) or only not in (None, group.path):
                continue
            for upstream in self._upstreams.names:
                source = self._upstreams.source(group, upstream)
                for pointer in self._pointers:
                    if pointer.source == source and self._serves(group, upstream, pointer):
                        name = _repository_name(group, upstream, pointer.image)
                        return PullTarget(name, upstream, pointer.tag, self._is_cached)
        return None

    def _serves(self, group: Group, upstream: str, pointer: TagPointer) -> bool:
        """Whether a cached tag is served, and nothing that the settings refuse."""
        permitted = self._upstreams.get(upstream).permits(pointer.image) and group.lets_through(upstream, pointer.image)
        return permitted and self._admin.manifest(pointer.target.digest) is not None

    async def examine_upstreams(self, named: PullTarget | None) -> list[Check]:
        """Check the clock, and every upstream with every credential; closes the upstreams' connections."""
        checks: list[Check] = []
        skews: list[float | None] = []
        try:
            for name in self._upstreams.names:
                if not (clients := self._clients(name)):
                    checks.append(not_run(f"upstream {name}", "no group has its dependency proxy on"))
                    continue
                samples = [(client, self._sample(name, client.source, named)) for client in clients]
                examined = await examine_upstream(self._upstreams.get(name), samples, lambda: datetime.now(UTC))
                checks += examined.checks
                skews.append(examined.skew)
        finally:
            await self._upstreams.close()
        return [examine_clock(skews), *checks]

    def _sample(self, upstream: str, source: Source, named: PullTarget | None) -> Sample | None:
        """Choose the image with which a credential is tried: the named one where its group uses that, one that was
        pulled with it, or one that is known to exist. What an account reads, others may not."""
        if named is not None and named.upstream == upstream:
            path, image = split_proxied_name(named.name) or ("", "")
            group = next((group for group in self._groups if group.path == path), None)
            if group is not None and self._upstreams.source(group, upstream) == source:
                return Sample(RepositoryName(image.partition("/")[2]), named.reference)
        for pointer in self._pointers:
            if pointer.source == source:
                return Sample(pointer.image, pointer.tag)
        return Sample(known_registries.DOCKER_HUB_SAMPLE, _LATEST) if upstream == known_registries.DOCKER_HUB else None

    def _clients(self, upstream: str) -> list[RegistryClient]:
        """Open a client for each credential that groups use at this upstream."""
        users = {self._upstreams.source(group, upstream): group for group in self._groups if group.proxy_enabled}
        return [self._upstreams.primary(group, upstream) for group in users.values()]

    def _is_cached(self, descriptor: Descriptor) -> bool:
        if descriptor.is_manifest:
            return self._admin.manifest(descriptor.digest) is not None
        size = self._admin.sizes([descriptor.digest]).get(descriptor.digest)
        return is_stored(self._store, descriptor.digest, size)


def examine_server(
    urls: Sequence[str], data: str, certificate: str | None, target: PullTarget | None, image_named: bool
) -> list[Check]:
    """Check the running server, and replay the pulls of clients.

    `urls`: where it may be reached, none where none runs. `data`: its data folder, for the text. `certificate`: its
    own, a PEM file. `image_named`: whether a person chose the image, so that None means that it does not exist.
    """
    replays = [f"pull as {profile.name}" for profile in PROFILES]
    if not urls:
        why = f"no server runs over {data}"
        return [not_run(name, why, Remedy.START_SERVER) for name in ("server", *replays)]
    troubles = {url: unreadiness(url, certificate) for url in urls}
    ready_url = next((url for url, trouble in troubles.items() if trouble is None), None)
    if ready_url is None:
        reasons = "; ".join(trouble for trouble in troubles.values() if trouble)
        server = failed("server", reasons, "see the server's log; if it was killed, start it again")
        return [server, *(not_run(name, "the server is not ready") for name in replays)]
    ready = passed("server", f"{ready_url} is ready")
    if target is not None and target.requires_login:
        why = f"{target.name} is pulled with a login alone"
        return [ready, *(not_run(name, why, Remedy.EXPLAIN_ACCESS) for name in replays)]
    if target is not None:
        return [ready, *replay_all(ready_url, certificate, target)]
    if image_named:
        return [ready, *(not_run(name, "no such image can be pulled") for name in replays)]
    why = "no image that everybody may pull is cached"
    return [ready, *(not_run(name, why, Remedy.NAME_IMAGE) for name in replays)]


def _repository_name(group: Group, upstream: str, image: RepositoryName) -> str:
    return proxied_name(group.path, f"{upstream}/{image}")
