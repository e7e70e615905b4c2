"""Closure: what a walk over manifests requests, and what it finds."""

import json
import sys

import pytest

from cache.oci.closure import Closure, Followed, PlatformMissing, find_closure, fits, references
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST

AMD, ARM, ARM_V8 = (
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "arm64"},
    {"os": "linux", "architecture": "arm64", "variant": "v8"},
)
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


def image(seed: str, *layers: str) -> Manifest:
    def entry(text: str) -> dict[str, object]:
        return {"mediaType": "application/x", "digest": str(Digest.of(text.encode())), "size": len(text)}

    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry(seed), "layers": [*map(entry, layers)]}
    return Manifest.parse(OCI_MANIFEST, json.dumps(document).encode())


ONE, TWO, THREE = image("one", "base", "1"), image("two", "base", "2"), image("three")


def index_of(*entries: tuple[Manifest, object], media_type: str | None = None) -> Manifest:
    documents = [
        {"mediaType": media_type or m.descriptor.media_type, "digest": str(m.descriptor.digest), "size": len(m.raw)}
        | ({"platform": platform} if platform else {})
        for m, platform in entries
    ]
    return Manifest.parse(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": documents}).encode())


def digests(*texts: str) -> set[Digest]:
    return {Digest.of(text.encode()) for text in texts}


def test_a_closure_holds_manifests_and_blobs_at_every_depth() -> None:
    inner = index_of((ONE, None))
    outer = index_of((inner, None), (TWO, None))
    known = {manifest.descriptor.digest: manifest for manifest in (ONE, TWO, inner, outer)}
    closure = find_closure([outer.descriptor.digest], known.get)
    assert closure == known.keys() | digests("one", "two", "base", "1", "2")


def test_a_manifest_that_cannot_be_had_is_found_without_its_references() -> None:
    index = index_of((ONE, None))
    closure = find_closure([index.descriptor.digest, *digests("other")], {index.descriptor.digest: index}.get)
    assert closure == {index.descriptor.digest, ONE.descriptor.digest} | digests("other")


def test_a_walk_is_breadth_first_and_returns_the_references_of_each_manifest() -> None:
    inner = index_of((ONE, None))
    outer = index_of((inner, None), (TWO, None))
    known = {manifest.descriptor.digest: manifest for manifest in (ONE, TWO, inner, outer)}
    closure = Closure([outer.descriptor.digest])
    assert [closure.add(known[digest]) for digest in closure] == [
        manifest.references() for manifest in (outer, inner, TWO, ONE)
    ]


def test_a_walk_keeps_no_manifest() -> None:
    index, closure = index_of((ONE, None)), Closure()
    before = sys.getrefcount(index)
    closure.add(index)
    assert sys.getrefcount(index) == before


def test_each_manifest_is_requested_once() -> None:
    index = index_of((ONE, AMD), (ONE, ARM), (TWO, None))
    known = {ONE.descriptor.digest: ONE, TWO.descriptor.digest: TWO}
    closure, requested = Closure([ONE.descriptor.digest]), list[Digest]()
    closure.add(index)
    for digest in closure:
        requested.append(digest)
        closure.add(known[digest])
    assert requested == [ONE.descriptor.digest, TWO.descriptor.digest]


def test_a_manifest_that_is_also_listed_as_a_blob_is_followed() -> None:
    disguised, plain = index_of((ONE, None), media_type="application/x"), index_of((ONE, None))
    known = {m.descriptor.digest: m for m in (disguised, plain, ONE)}
    closure = find_closure([disguised.descriptor.digest, plain.descriptor.digest], known.get, Followed.MANIFESTS)
    assert digests("one", "base", "1") < closure


@pytest.mark.parametrize(
    ("followed", "entry", "layer"),
    [(Followed.MANIFESTS, False, False), (Followed.ENTRIES, True, False), (Followed.ALL, True, True)],
)
def test_what_is_stored_as_a_manifest_may_be_followed_whatever_media_type_it_is_listed_under(
    followed: Followed, entry: bool, layer: bool
) -> None:
    index, image_over = index_of((ONE, None), media_type="application/x"), image("over", ONE.raw.decode())
    known = {m.descriptor.digest: m for m in (index, image_over, ONE)}
    for root, expected in ((index, entry), (image_over, layer)):
        closure = find_closure([root.descriptor.digest], known.get, followed)
        assert ONE.descriptor.digest in closure
        assert (digests("one", "base", "1") < closure) is expected


def test_a_walk_for_some_platforms_leaves_the_others_out() -> None:
    closure = Closure(platforms=["linux/amd64"])
    closure.add(index_of((ONE, AMD), (TWO, ARM)))
    assert list(closure) == [ONE.descriptor.digest]


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


def test_requested_platforms_are_chosen_from_an_index_and_each_must_exist() -> None:
    index = index_of((ONE, AMD), (TWO, ARM_V8), (THREE, UNKNOWN))
    assert references(index, ["linux/amd64"]) == [ONE.descriptor]
    assert references(index, ["linux/amd64", "linux/arm64"]) == [ONE.descriptor, TWO.descriptor]
    assert references(index, ["*"]) == [ONE.descriptor, TWO.descriptor, THREE.descriptor]
    with pytest.raises(PlatformMissing, match="linux/s390x"):
        references(index, ["linux/amd64", "linux/s390x"])
