"""Warming: bringing all that an image needs here before anybody asks. Who carries it is not known here."""

import asyncio
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from cache.values import TagPage

ALL = "*"
_AT_ONCE = 3
_PAGE = 1000
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}


class Shelf(Protocol):
    """One image, as a client with the rights of a group gets it. Raises RegistryError or UpstreamError."""

    async def manifest(self, reference: Tag | Digest) -> Manifest: ...

    async def bring(self, digest: Digest) -> None:
        """Returns when the whole blob has arrived."""

    async def tags(self, count: int, last: str | None) -> TagPage: ...

    def holds(self, digest: Digest) -> bool:
        """Whether the blob is here for this image, without asking anybody."""

    def may_ask(self) -> bool:
        """Whether the upstream's quota leaves something for what nobody has asked for."""


class Postponed(Exception):
    """The quota leaves nothing to spare now; later it will."""


class PlatformMissing(Exception):
    """An index has nothing for a platform that was wanted; the text says which."""


@dataclass(slots=True)
class Tally:
    """What warming came to. `advance` is told the bytes of each blob that arrived."""

    manifests: int = 0
    fetched: int = 0
    held: int = 0
    bytes: int = 0
    advance: Callable[[int], None] = field(default=lambda size: None, repr=False)

    def arrived(self, size: int) -> None:
        self.fetched += 1
        self.bytes += size
        self.advance(size)


def own_platform() -> str:
    machine = platform.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def fits(wanted: str, given: object) -> bool:
    """Whether an index's entry is for a platform `os/architecture[/variant]`; without a variant any will do."""
    if wanted == ALL or not isinstance(given, dict):
        return True
    parts = wanted.split("/")
    keys = ("os", "architecture", "variant")[: len(parts)]
    return [given.get(key) for key in keys] == parts


def children_for(index: Manifest, platforms: Sequence[str]) -> list[Descriptor]:
    """Raises PlatformMissing. Entries without a platform are for all."""
    entries = json.loads(index.raw)["manifests"]
    pairs = list(zip(index.children, [entry.get("platform") for entry in entries], strict=True))
    for wanted in platforms:
        if not any(fits(wanted, given) for _, given in pairs):
            raise PlatformMissing(f"it has nothing for {wanted}")
    return [child for child, given in pairs if any(fits(wanted, given) for wanted in platforms)]


async def matching_tags(shelf: Shelf, pattern: str) -> list[Tag]:
    """Those of the upstream's that match a glob; a pattern without one is its own tag."""
    if not set(pattern) & set("*?["):
        return [Tag.parse(pattern)]
    found: list[Tag] = []
    last: str | None = None
    while True:
        page = await shelf.tags(_PAGE, last)
        found += [Tag.parse(name) for name in page.tags if fnmatchcase(name, pattern)]
        if page.last is None or page.last == last:
            return found
        last = page.last


async def warm(shelf: Shelf, reference: Tag | Digest, platforms: Sequence[str], tally: Tally) -> None:
    """All of one tag or digest. What is here is not fetched again, so what broke off goes on where it was.

    Raises what the shelf raises, Postponed, PlatformMissing.
    """
    if not shelf.may_ask():
        raise Postponed
    pending, blobs = [await shelf.manifest(reference)], dict[Digest, Descriptor]()
    while pending:
        manifest = pending.pop()
        tally.manifests += 1
        below = children_for(manifest, platforms) if manifest.children else manifest.references()
        blobs |= {entry.digest: entry for entry in below if not entry.is_manifest}
        for entry in below:
            if entry.is_manifest:
                if not shelf.may_ask():
                    raise Postponed
                pending.append(await shelf.manifest(entry.digest))
    missing = [entry for entry in blobs.values() if not shelf.holds(entry.digest)]
    tally.held += len(blobs) - len(missing)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def bring(entry: Descriptor) -> None:
        async with turns:
            if not shelf.may_ask():
                raise Postponed
            await shelf.bring(entry.digest)
            tally.arrived(entry.size)

    outcomes = await asyncio.gather(*map(bring, missing), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
