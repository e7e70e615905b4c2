"""Warming: which tags match, which content is fetched, and where the quota stops it."""

import json
from collections.abc import Callable, Sequence

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import TagInvalid
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.oci.names import Tag
from cache.proxy.warming import QuotaReserved, WarmingCounts, WarmingProgress, matching_tags, own_platform, warm
from cache.upstream.errors import Unavailable
from cache.values import PageStart, TagPage
from tests.cache.proxy.test_prefetch import image
from tests.cache.samples import LATEST

AMD, ARM = (
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "arm64"},
)
A, A_BLOBS = image("a", 2)
B, B_BLOBS = image("b", 1)


def index_of(*entries: tuple[Manifest, object]) -> Manifest:
    documents = [
        {"mediaType": m.descriptor.media_type, "digest": str(m.descriptor.digest), "size": len(m.raw)}
        | ({"platform": platform} if platform else {})
        for m, platform in entries
    ]
    return Manifest.parse(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": documents}).encode())


class MemorySource:
    """A WarmingSource in memory that records the blobs that are fetched."""

    def __init__(self, *manifests: Manifest, here: Sequence[Digest] = (), budget: int = 1000) -> None:
        self.manifests: dict[Tag | Digest, Manifest] = {m.descriptor.digest: m for m in manifests}
        self.manifests[LATEST] = manifests[0]
        self.here = set(here)
        self.fetched_blobs: list[Digest] = []
        self.budget = budget
        self.failing: Digest | None = None

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        self.budget -= 1
        return self.manifests[reference]

    async def fetch(self, digest: Digest, arrived: Callable[[int], None]) -> None:
        if digest == self.failing:
            raise Unavailable("the download broke off")
        self.budget -= 1
        self.fetched_blobs.append(digest)
        arrived(1)

    async def tags(self, count: int, start: PageStart) -> TagPage:
        names = ["3.19", "3.20", "3.20.1", "edge", "latest"]
        begin = names.index(start.after) + 1 if start.after else 0
        page = names[begin : begin + 2]
        return TagPage(page, PageStart(None, page[-1]) if begin + 2 < len(names) else None)

    def holds(self, digest: Digest) -> bool:
        return digest in self.here

    def has_quota(self) -> bool:
        return self.budget > 0


def test_the_platform_of_this_machine_is_a_linux() -> None:
    assert own_platform().startswith("linux/")
    assert "x86" not in own_platform()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("3.*", ["3.19", "3.20", "3.20.1"]),
        ("3.??", ["3.19", "3.20"]),
        ("[e]*", ["edge"]),
        ("4.*", []),
        ("not-listed", ["not-listed"]),
    ],
)
async def test_a_glob_stands_for_the_tags_of_all_pages(pattern: str, names: list[str]) -> None:
    assert await matching_tags(MemorySource(A), pattern) == [Tag(name) for name in names]


async def test_a_text_that_is_neither_tag_nor_glob_is_refused() -> None:
    with pytest.raises(TagInvalid):
        await matching_tags(MemorySource(A), "-")


class Seen(WarmingProgress):
    """What a run told of its progress."""

    expected = came = 0

    def expect(self, size: int) -> None:
        self.expected += size

    def arrived(self, size: int) -> None:
        self.came += size


async def test_everything_of_the_platform_is_fetched_and_nothing_of_others() -> None:
    source, seen = MemorySource(index_of((A, AMD), (B, ARM)), A, B), Seen()
    counts = WarmingCounts(progress=seen)
    await warm(source, LATEST, ["linux/amd64"], counts)
    assert sorted(map(str, source.fetched_blobs)) == sorted(map(str, A_BLOBS))
    assert (counts.manifests, counts.fetched, counts.held) == (2, 3, 0)
    assert counts.bytes == seen.expected == sum(map(len, A_BLOBS.values()))
    assert seen.came == len(A_BLOBS)


async def test_cached_blobs_are_not_fetched_again() -> None:
    first, *others = A_BLOBS
    source, counts = MemorySource(A, here=[first]), WarmingCounts()
    await warm(source, A.descriptor.digest, ["linux/amd64"], counts)
    assert sorted(map(str, source.fetched_blobs)) == sorted(map(str, others))
    assert (counts.manifests, counts.fetched, counts.held) == (1, 2, 1)


async def test_layers_that_a_registry_does_not_serve_are_not_fetched() -> None:
    types = ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"]
    types += [f"application/vnd.oci.image.layer.nondistributable.v1.tar{form}" for form in ("", "+gzip", "+zstd")]
    for media_type in types:
        foreign, blobs = image("foreign", 2, media_type)
        source, counts = MemorySource(foreign), WarmingCounts()
        await warm(source, LATEST, ["*"], counts)
        assert source.fetched_blobs == [next(iter(blobs))]
        assert (counts.fetched, counts.held) == (1, 0)


async def test_one_blob_that_fails_does_not_keep_the_others_away() -> None:
    source, counts = MemorySource(A), WarmingCounts()
    source.failing = next(iter(A_BLOBS))
    with pytest.raises(Unavailable):
        await warm(source, LATEST, ["*"], counts)
    assert counts.fetched == 2


@pytest.mark.parametrize("budget", [0, 1, 2, 3])
async def test_a_quota_with_nothing_to_spare_postpones_warming(budget: int) -> None:
    source = MemorySource(index_of((A, AMD)), A, budget=budget)
    with pytest.raises(QuotaReserved):
        await warm(source, LATEST, ["linux/amd64"], WarmingCounts())
    assert source.budget == 0
