"""Contract of every Index. The test module of an implementation inherits it and gives the `index` fixture."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cache.index.base import Holdings, Index, SizeConflict
from cache.oci.names import Tag
from cache.values import Ancestor, BlobInfo, Link, Registry, Sighting, TagPointer
from tests.cache.samples import (
    ALICE,
    ANONYMOUS,
    APP,
    ELSEWHERE,
    LATEST,
    NOON,
    ORIGIN,
    WEB,
    blob_of,
    index_of,
    manifest_of,
)

MANIFEST = manifest_of("one")
DIGEST = MANIFEST.descriptor.digest
POINTER = TagPointer(ANONYMOUS, APP, LATEST, MANIFEST.descriptor, NOON)
LINK = Link(ANONYMOUS, APP, DIGEST)


class IndexContract:
    async def test_an_empty_index_knows_nothing(self, index: Index) -> None:
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None
        assert await index.find_manifest(DIGEST) is None
        assert not await index.linked(LINK)
        assert not await index.known_at(Registry(ORIGIN), DIGEST)

    async def test_facts_of_every_kind_are_found_again(self, index: Index) -> None:
        await index.record(POINTER, LINK, MANIFEST, BlobInfo(DIGEST, MANIFEST.descriptor.size))
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
        assert await index.find_manifest(DIGEST) == MANIFEST
        assert await index.linked(LINK)
        assert await index.known_at(Registry(ORIGIN), DIGEST)

    async def test_recording_the_same_twice_is_no_error(self, index: Index) -> None:
        facts = (POINTER, LINK, MANIFEST, BlobInfo(DIGEST, 7))
        await index.record(*facts)
        await index.record(*facts)
        assert await index.linked(LINK)

    async def test_a_blob_gets_no_second_size(self, index: Any) -> None:
        await index.record(BlobInfo(DIGEST, 8_000_000))
        with pytest.raises(SizeConflict):
            await index.record(LINK, BlobInfo(DIGEST, 5_000))
        assert await index.find_size(DIGEST) == 8_000_000
        assert not await index.linked(LINK)
        await index.drop(DIGEST, lambda: False)
        await index.record(BlobInfo(DIGEST, 5_000))
        assert await index.find_size(DIGEST) == 5_000

    async def test_recording_nothing_is_no_error(self, index: Index) -> None:
        await index.record()

    async def test_manifests_and_links_are_kept_by_sha512_too(self, index: Index) -> None:
        manifest = manifest_of("one", "sha512")
        link = Link(ANONYMOUS, APP, manifest.descriptor.digest)
        await index.record(manifest, link)
        assert await index.find_manifest(manifest.descriptor.digest) == manifest
        assert await index.linked(link)
        assert await index.find_manifest(DIGEST) is None

    async def test_a_newer_pointer_takes_the_place_of_an_older_one(self, index: Index) -> None:
        await index.record(POINTER)
        moved = replace(POINTER, target=manifest_of("two").descriptor, checked_at=NOON + timedelta(hours=1))
        await index.record(moved)
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) == moved

    async def test_the_time_of_a_check_is_kept_to_the_microsecond(self, index: Index) -> None:
        pointer = replace(POINTER, checked_at=NOON + timedelta(microseconds=123_457))
        await index.record(pointer)
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) == pointer

    async def test_a_pointer_belongs_to_one_source_image_and_tag(self, index: Index) -> None:
        await index.record(POINTER)
        assert await index.find_pointer(ALICE, APP, LATEST) is None
        assert await index.find_pointer(ELSEWHERE, APP, LATEST) is None
        assert await index.find_pointer(ANONYMOUS, WEB, LATEST) is None
        assert await index.find_pointer(ANONYMOUS, APP, Tag("Latest")) is None

    async def test_a_link_belongs_to_one_source_image_and_digest(self, index: Index) -> None:
        await index.record(LINK)
        assert not await index.linked(replace(LINK, source=ALICE))
        assert not await index.linked(replace(LINK, source=ELSEWHERE))
        assert not await index.linked(replace(LINK, image=WEB))
        assert not await index.linked(replace(LINK, digest=blob_of(3)[1]))

    async def test_a_manifest_alone_gives_no_right_to_it(self, index: Index) -> None:
        await index.record(MANIFEST, POINTER)
        assert not await index.linked(LINK)
        assert not await index.known_at(Registry(ORIGIN), DIGEST)

    async def test_a_digest_is_known_at_an_origin_whatever_the_image_and_credential(self, index: Index) -> None:
        await index.record(Link(ALICE, WEB, DIGEST))
        assert await index.known_at(Registry(ORIGIN), DIGEST)
        assert not await index.known_at(ELSEWHERE.registry, DIGEST)

    async def test_forgetting_a_tag_leaves_the_other_tags_and_all_links(self, index: Index) -> None:
        other = replace(POINTER, tag=Tag("v1"))
        await index.record(POINTER, other, LINK, MANIFEST)
        await index.forget(ANONYMOUS, APP, LATEST)
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None
        assert await index.find_pointer(ANONYMOUS, APP, Tag("v1")) == other
        assert await index.linked(LINK)
        assert await index.find_manifest(DIGEST) == MANIFEST

    async def test_forgetting_a_digest_takes_one_link_and_nothing_else(self, index: Index) -> None:
        other = replace(LINK, digest=blob_of(3)[1])
        await index.record(POINTER, LINK, other, replace(LINK, image=WEB), MANIFEST)
        await index.forget(ANONYMOUS, APP, DIGEST)
        assert not await index.linked(LINK)
        assert await index.linked(other)
        assert await index.linked(replace(LINK, image=WEB))
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
        await index.record(LINK)
        assert await index.linked(LINK)

    async def test_an_image_has_its_latest_tags_and_its_links(self, index: Index) -> None:
        assert await index.holdings(ANONYMOUS, APP) == Holdings()
        await index.record(LINK)
        assert await index.holdings(ANONYMOUS, APP) == Holdings((), True)
        for number in range(3):
            moment = NOON + timedelta(minutes=number)
            await index.record(replace(POINTER, tag=Tag(f"v{number}"), checked_at=moment))
        assert await index.holdings(ANONYMOUS, APP) == Holdings((Tag("v2"), Tag("v1")), True)
        await index.forget(ANONYMOUS, APP)
        assert await index.holdings(ANONYMOUS, APP) == Holdings()

    async def test_forgetting_an_image_takes_its_pointers_and_links_and_nobody_else_s(self, index: Index) -> None:
        others = [Link(ALICE, APP, DIGEST), Link(ANONYMOUS, WEB, DIGEST), Link(ELSEWHERE, APP, DIGEST)]
        kept = replace(POINTER, source=ALICE)
        await index.record(POINTER, replace(POINTER, tag=Tag("v1")), LINK, kept, *others)
        await index.forget(ANONYMOUS, APP)
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None
        assert await index.find_pointer(ANONYMOUS, APP, Tag("v1")) is None
        assert not await index.linked(LINK)
        assert [await index.linked(link) for link in others] == [True, True, True]
        assert await index.find_pointer(ALICE, APP, LATEST) == kept

    async def test_the_last_link_of_an_origin_forgotten_the_digest_is_unknown_there(self, index: Index) -> None:
        await index.record(LINK)
        await index.forget(ANONYMOUS, APP)
        assert not await index.known_at(Registry(ORIGIN), DIGEST)

    async def test_forgetting_what_was_never_known_is_no_error(self, index: Index) -> None:
        await index.forget(ANONYMOUS, APP)
        await index.forget(ANONYMOUS, APP, LATEST)

    async def test_what_was_forgotten_may_be_recorded_again(self, index: Index) -> None:
        await index.record(POINTER, LINK)
        await index.forget(ANONYMOUS, APP)
        await index.record(POINTER, LINK)
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
        assert await index.linked(LINK)


class HistoryContract:
    """Contract of every Index that is a History, too."""

    async def test_every_pointer_is_a_sighting_from_its_first_to_its_last(self, index: Any) -> None:
        later, moved = NOON + timedelta(hours=1), manifest_of("two").descriptor
        await index.record(POINTER)
        await index.record(replace(POINTER, checked_at=later))
        await index.record(replace(POINTER, target=moved, checked_at=later))
        await index.record(replace(POINTER, tag=Tag("v1")))
        found = await index.sightings(ANONYMOUS, APP)
        assert sorted(found, key=lambda sighting: (sighting.tag, str(sighting.digest) != str(DIGEST))) == [
            Sighting(LATEST, DIGEST, NOON, later),
            Sighting(LATEST, moved.digest, later, later),
            Sighting(Tag("v1"), DIGEST, NOON, NOON),
        ]
        assert await index.sightings(ALICE, APP) == await index.sightings(ANONYMOUS, WEB) == []

    async def test_an_older_sighting_that_is_written_later_changes_nothing(self, index: Any) -> None:
        await index.record(POINTER)
        await index.record(replace(POINTER, checked_at=NOON - timedelta(hours=1)))
        assert await index.sightings(ANONYMOUS, APP) == [Sighting(LATEST, DIGEST, NOON, NOON)]

    async def test_what_is_forgotten_was_seen_all_the_same(self, index: Any) -> None:
        await index.record(POINTER)
        await index.forget(ANONYMOUS, APP)
        assert await index.sightings(ANONYMOUS, APP) == [Sighting(LATEST, DIGEST, NOON, NOON)]

    async def test_the_sightings_of_one_tag_are_found_without_those_of_others(self, index: Any) -> None:
        await index.record(POINTER, replace(POINTER, tag=Tag("v1")))
        assert await index.sightings(ANONYMOUS, APP, LATEST) == [Sighting(LATEST, DIGEST, NOON, NOON)]

    async def test_ancestors_are_the_manifests_of_an_image_that_lead_to_a_digest(self, index: Any) -> None:
        over = index_of(MANIFEST)
        [layer, *_] = [entry.digest for entry in MANIFEST.references()]
        await index.record(MANIFEST, over, LINK)
        assert await index.ancestors(ANONYMOUS, APP, layer) == [Ancestor(layer), Ancestor(DIGEST, layer)]
        await index.record(replace(POINTER, target=over.descriptor))
        assert await index.ancestors(ANONYMOUS, APP, layer) == [
            Ancestor(layer),
            Ancestor(DIGEST, layer),
            Ancestor(over.descriptor.digest, DIGEST, NOON),
        ]
        assert await index.ancestors(ANONYMOUS, WEB, layer) == await index.ancestors(ALICE, APP, layer)
        assert await index.ancestors(ANONYMOUS, WEB, layer) == [Ancestor(layer)]

    async def test_a_digest_counts_from_its_earliest_sighting_under_any_tag(self, index: Any) -> None:
        await index.record(replace(POINTER, checked_at=NOON - timedelta(hours=1)), replace(POINTER, tag=Tag("v1")))
        assert await index.ancestors(ANONYMOUS, APP, DIGEST) == [Ancestor(DIGEST, None, NOON - timedelta(hours=1))]
