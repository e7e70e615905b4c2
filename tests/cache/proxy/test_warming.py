"""Warming: what is chosen, what is fetched, and what is left alone."""

import json
from collections.abc import Sequence

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import TagInvalid
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.oci.names import Tag
from cache.proxy.warming import PlatformMissing, Postponed, Tally, children_for, fits, matching_tags, own_platform, warm
from cache.upstream.errors import Unavailable
from cache.values import TagPage
from tests.cache.proxy.test_prefetch import image
from tests.cache.samples import LATEST

AMD, ARM, ARM_V8 = (
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "arm64"},
    {"os": "linux", "architecture": "arm64", "variant": "v8"},
)
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
A, A_BLOBS = image("a", 2)
B, B_BLOBS = image("b", 1)
C, C_BLOBS = image("c", 1)


def index_of(*entries: tuple[Manifest, object]) -> Manifest:
    documents = [
        {"mediaType": m.descriptor.media_type, "digest": str(m.descriptor.digest), "size": len(m.raw)}
        | ({"platform": platform} if platform else {})
        for m, platform in entries
    ]
    return Manifest.parse(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": documents}).encode())


class MemoryShelf:
    """A Shelf that writes down what it is asked for."""

    def __init__(self, *manifests: Manifest, here: Sequence[Digest] = (), budget: int = 1000) -> None:
        self.manifests: dict[Tag | Digest, Manifest] = {m.descriptor.digest: m for m in manifests}
        self.manifests[LATEST] = manifests[0]
        self.here = set(here)
        self.brought: list[Digest] = []
        self.budget = budget
        self.failing: Digest | None = None

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        self.budget -= 1
        return self.manifests[reference]

    async def bring(self, digest: Digest) -> None:
        if digest == self.failing:
            raise Unavailable("it broke off")
        self.budget -= 1
        self.brought.append(digest)

    async def tags(self, count: int, last: str | None) -> TagPage:
        names = ["3.19", "3.20", "3.20.1", "edge", "latest"]
        start = names.index(last) + 1 if last else 0
        page = names[start : start + 2]
        return TagPage(page, page[-1] if start + 2 < len(names) else None)

    def holds(self, digest: Digest) -> bool:
        return digest in self.here

    def may_ask(self) -> bool:
        return self.budget > 0


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        ("linux/amd64", AMD, True),
        ("linux/amd64", ARM, False),
        ("linux/arm64", ARM_V8, True),
        ("linux/arm64/v8", ARM_V8, True),
        ("linux/arm64/v8", ARM, False),
        ("windows/amd64", AMD, False),
        ("linux/amd64", None, True),
        ("*", UNKNOWN, True),
        ("linux/amd64", UNKNOWN, False),
    ],
)
def test_an_entry_fits_a_platform(wanted: str, given: object, expected: bool) -> None:
    assert fits(wanted, given) is expected


def test_of_an_index_the_platforms_that_are_wanted_are_chosen_and_each_must_be_there() -> None:
    index = index_of((A, AMD), (B, ARM_V8), (C, UNKNOWN))
    assert children_for(index, ["linux/amd64"]) == [A.descriptor]
    assert children_for(index, ["linux/amd64", "linux/arm64"]) == [A.descriptor, B.descriptor]
    assert children_for(index, ["*"]) == [A.descriptor, B.descriptor, C.descriptor]
    with pytest.raises(PlatformMissing, match="linux/s390x"):
        children_for(index, ["linux/amd64", "linux/s390x"])


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
    assert await matching_tags(MemoryShelf(A), pattern) == [Tag(name) for name in names]


async def test_what_is_neither_tag_nor_glob_is_refused() -> None:
    with pytest.raises(TagInvalid):
        await matching_tags(MemoryShelf(A), "-")


async def test_everything_of_the_platform_is_brought_and_nothing_of_others() -> None:
    shelf, sizes = MemoryShelf(index_of((A, AMD), (B, ARM)), A, B), list[int]()
    tally = Tally(advance=sizes.append)
    await warm(shelf, LATEST, ["linux/amd64"], tally)
    assert sorted(map(str, shelf.brought)) == sorted(map(str, A_BLOBS))
    assert (tally.manifests, tally.fetched, tally.held) == (2, 3, 0)
    assert tally.bytes == sum(sizes) == sum(map(len, A_BLOBS.values()))


async def test_what_is_here_is_not_fetched_again() -> None:
    first, *others = A_BLOBS
    shelf, tally = MemoryShelf(A, here=[first]), Tally()
    await warm(shelf, A.descriptor.digest, ["linux/amd64"], tally)
    assert sorted(map(str, shelf.brought)) == sorted(map(str, others))
    assert (tally.manifests, tally.fetched, tally.held) == (1, 2, 1)


async def test_one_blob_that_fails_does_not_keep_the_others_away() -> None:
    shelf, tally = MemoryShelf(A), Tally()
    shelf.failing = next(iter(A_BLOBS))
    with pytest.raises(Unavailable):
        await warm(shelf, LATEST, ["*"], tally)
    assert tally.fetched == 2


@pytest.mark.parametrize("budget", [0, 1, 2, 3])
async def test_where_the_quota_leaves_nothing_to_spare_it_is_for_later(budget: int) -> None:
    shelf = MemoryShelf(index_of((A, AMD)), A, budget=budget)
    with pytest.raises(Postponed):
        await warm(shelf, LATEST, ["linux/amd64"], Tally())
    assert shelf.budget == 0
