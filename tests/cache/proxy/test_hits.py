"""A remembered hit is one only while nothing has changed, and for its time; the memory is bounded."""

from datetime import timedelta

import pytest

from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.proxy.memory import Hits
from cache.proxy.repository import memory
from cache.repository import Answer, FoundManifest
from cache.values import Outcome
from tests.cache.samples import NOON

MANIFEST = Manifest.parse(OCI_INDEX, b'{"schemaVersion": 2, "manifests": []}')
FOUND = FoundManifest(MANIFEST, Answer(Outcome.HIT))


def test_it_is_found_until_its_time_is_up_or_the_index_changes() -> None:
    memory = Hits()
    assert memory.note("key", 1, NOON, FOUND) is FOUND
    assert memory.find("key", 1, NOON - timedelta(seconds=1)) is FOUND
    assert memory.find("key", 2, NOON - timedelta(seconds=1)) is None
    assert memory.find("key", 1, NOON) is None
    assert memory.find("other", 1, NOON - timedelta(seconds=1)) is None


def test_without_a_time_it_is_good_as_long_as_nothing_changes() -> None:
    memory = Hits()
    memory.note("key", 1, None, FOUND)
    assert memory.find("key", 1, NOON + timedelta(days=1000)) is FOUND


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.HIT])
def test_nothing_but_a_hit_is_remembered(outcome: Outcome) -> None:
    memory = Hits()
    memory.note("key", 1, None, FoundManifest(MANIFEST, Answer(outcome)))
    assert memory.find("key", 1, NOON) is None


@pytest.mark.parametrize(("name", "limit"), [("COUNT", 3), ("BYTES", 3 * len(MANIFEST.raw))])
def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    monkeypatch.setattr(memory, name, limit)
    memory = Hits()
    for number in range(10):
        memory.note(number, 1, None, FOUND)
        memory.note(number, 1, None, FOUND)
    assert sum(memory.find(number, 1, NOON) is not None for number in range(10)) <= 3
    assert memory.find(9, 1, NOON) is FOUND
