"""The choice of what is evicted: plain functions over facts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.index.maintenance import CachedItem
from cache.oci.digest import Digest
from cache.retention.eviction import EvictionLimits, choose, choose_files, shortage, unused, worth

NOW = 1_000_000.0
MIB = 1024 * 1024


def held(
    name: str, size: int = MIB, age: float = 100.0, uses: int = 1, images: int = 1, gone: bool = False
) -> CachedItem:
    return CachedItem(Digest.of(name.encode()), size, NOW - age, uses, images, gone)


@pytest.mark.parametrize(
    ("size", "free", "limits", "wanted"),
    [
        (1000, 5000, EvictionLimits(1000), 0),
        (1001, 5000, EvictionLimits(1000), 101),
        (5000, 5000, EvictionLimits(1000), 4100),
        (10, 100, EvictionLimits(1000, reserve=100), 0),
        (10, 60, EvictionLimits(1000, reserve=100), 40),
        (1100, 60, EvictionLimits(1000, reserve=100), 200),
        (1001, 0, EvictionLimits(1000, reserve=500), 500),
        (0, 0, EvictionLimits(0), 0),
    ],
)
def test_the_bytes_to_evict_by_cap_and_reserve(size: int, free: int, limits: EvictionLimits, wanted: int) -> None:
    assert shortage(size, free, limits) == wanted


@pytest.mark.parametrize(
    ("less", "more"),
    [
        pytest.param(held("a", age=200), held("b", age=100), id="used longer ago"),
        pytest.param(held("a", uses=1), held("b", uses=20), id="used less often"),
        pytest.param(held("a", images=1), held("b", images=8), id="shared by fewer images"),
        pytest.param(held("a", images=0), held("b", images=1), id="nobody has a right to it"),
        pytest.param(held("a", size=500 * MIB), held("b", size=1000), id="cheaper to fetch again, by byte"),
        pytest.param(held("a", size=0, age=1e6), held("b", size=0, age=1), id="empty"),
        pytest.param(held("a", age=10), held("b", age=-5), id="a clock that was put back"),
    ],
)
def test_what_is_evicted_first(less: CachedItem, more: CachedItem) -> None:
    assert worth(less, NOW) < worth(more, NOW)
    for order in ([less, more], [more, less]):
        assert choose(order, 1, NOW)[0] == less


def test_what_is_gone_upstream_is_chosen_only_when_the_rest_is_not_enough() -> None:
    gone = held("gone", age=1e5, gone=True)
    other = held("other", age=1)
    assert choose([gone, other], MIB, NOW) == [other]
    assert choose([gone, other], MIB + 1, NOW) == [other, gone]


def test_files_are_chosen_by_their_use_and_not_by_their_size() -> None:
    old, large, young = held("old", size=1, age=300), held("large", size=100 * MIB, age=200), held("young", age=100)
    manifest = replace(held("manifest", age=900), is_manifest=True)
    everything = [manifest, young, large, old]
    assert choose_files(everything, 2, NOW) == [old, large]
    assert choose_files(everything, 9, NOW, {large.digest}) == [old, young]
    assert choose_files(everything, 0, NOW) == []


def test_nothing_wanted_nothing_chosen() -> None:
    assert choose([held("a")], 0, NOW) == []


def test_what_nobody_uses_is_evicted_unless_it_is_spared_or_gone_upstream() -> None:
    old, young = held("old", age=200), held("young", age=50)
    pinned, gone = held("pinned", age=200), held("gone", age=200, gone=True)
    everything = [old, young, pinned, gone]
    assert unused(everything, NOW, 100, {pinned.digest}) == [old]
    assert unused(everything, NOW, 0) == []


HELD = st.builds(
    CachedItem,
    digest=st.integers(0, 50).map(lambda number: Digest.of(b"%d" % number)),
    size=st.integers(0, 10**12),
    last_used=st.floats(0, 2 * NOW),
    uses=st.integers(0, 10**6),
    images=st.integers(0, 1000),
    gone=st.booleans(),
)


@given(
    st.lists(HELD, unique_by=lambda h: h.digest),
    st.integers(0, 10**13),
    st.sets(st.integers(0, 50).map(lambda number: Digest.of(b"%d" % number))),
)
def test_nothing_spared_is_chosen_and_enough_is_or_all_there_is(
    everything: list[CachedItem], wanted: int, spared: set[Digest]
) -> None:
    chosen = choose(everything, wanted, NOW, spared)
    assert not {h.digest for h in chosen} & spared
    assert len(set(chosen)) == len(chosen)
    free = [h for h in everything if h.digest not in spared]
    assert sum(h.size for h in chosen) >= wanted or len(chosen) == len(free)
    assert sum(h.size for h in chosen[:-1]) < wanted or not chosen  # and no more than that
    if any(h.gone for h in chosen):
        assert {h.digest for h in free if not h.gone} <= {h.digest for h in chosen}
