"""Manifests: every document is kept byte for byte, is exactly one kind, or is refused with ManifestInvalid."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import DEPTH_LIMIT
from cache.oci.errors import ManifestInvalid
from cache.oci.manifest import SIZE_LIMIT, Manifest
from cache.oci.media_types import ACCEPTED, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, OCTET_STREAM

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(media_type: str = LAYER, content: bytes = b"layer", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def image(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": entry(content=b"config"), "layers": [entry()], **more}


def index(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": [entry(OCI_MANIFEST)], **more}


def dump(document: Any) -> bytes:
    return json.dumps(document).encode()


def with_member(member: bytes) -> bytes:
    return dump(image())[:-1] + b", " + member + b"}"


def refusal(raw: bytes, media_type: str = OCI_MANIFEST) -> str:
    with pytest.raises(ManifestInvalid) as refused:
        Manifest.parse(media_type, raw)
    json.dumps(refused.value.detail).encode()
    text = str(refused.value)
    assert len(text.encode("utf-8")) < 1000
    return text


# --- what is accepted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize(
    ("media_type", "document"),
    [
        (OCI_MANIFEST, image()),
        (OCI_MANIFEST, image(mediaType=OCI_MANIFEST, layers=[])),
        (DOCKER_MANIFEST, image(mediaType=DOCKER_MANIFEST)),
        (OCI_INDEX, index()),
        (OCI_INDEX, index(mediaType=OCI_INDEX, manifests=[])),
        (DOCKER_LIST, index(mediaType=DOCKER_LIST)),
    ],
)
def test_a_manifest_keeps_its_bytes_and_is_named_by_them(
    media_type: str, document: dict[str, Any], algorithm: str
) -> None:
    raw = b" \n" + dump(document) + b"\n"
    manifest = Manifest.parse(media_type, raw, algorithm)
    assert manifest.raw == raw
    assert manifest.descriptor == Descriptor(media_type, Digest.of(raw, algorithm), len(raw))


def test_an_image_refers_to_its_config_and_layers_in_order_and_not_to_its_subject() -> None:
    layers = [entry(content=bytes([n])) for n in range(3)]
    manifest = Manifest.parse(OCI_MANIFEST, dump(image(layers=layers, subject=entry(OCI_MANIFEST, b"subject"))))
    digests = [str(reference.digest) for reference in manifest.references()]
    assert digests == [entry(content=b"config")["digest"], *(layer["digest"] for layer in layers)]
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"subject")
    assert manifest.children == ()


def test_a_build_cache_is_an_index_whose_children_are_blobs() -> None:
    children = [entry(LAYER), entry("application/vnd.buildkit.cacheconfig.v0", b"c"), entry(OCI_MANIFEST, b"m")]
    manifest = Manifest.parse(OCI_INDEX, dump(index(manifests=children)))
    assert [child.is_manifest for child in manifest.references()] == [False, False, True]
    assert manifest.references() == manifest.children
    assert (manifest.config, manifest.layers) == (None, ())


@pytest.mark.parametrize("urls", [["http://169.254.169.254/"], "file:///etc/passwd", None, {}, 7, [[]]])
def test_urls_never_matter(urls: Any) -> None:
    plain = Manifest.parse(OCI_MANIFEST, dump(image()))
    manifest = Manifest.parse(OCI_MANIFEST, dump(image(layers=[entry(urls=urls)], urls=urls)))
    assert manifest.references() == plain.references()


@pytest.mark.parametrize("subject", [None, entry(OCI_INDEX)])
@pytest.mark.parametrize(("media_type", "document"), [(OCI_MANIFEST, image()), (OCI_INDEX, index())])
def test_images_and_indexes_may_have_a_subject(media_type: str, document: dict[str, Any], subject: Any) -> None:
    manifest = Manifest.parse(media_type, dump({**document, "subject": subject}))
    assert manifest.subject == (subject and Descriptor.find(subject))


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("media_type", "key"), [(OCI_MANIFEST, "layers"), (OCI_INDEX, "manifests")])
@pytest.mark.parametrize("platform", [None, {"architecture": "amd64", "os": "linux"}])
def test_as_many_descriptors_as_fit_into_the_size_are_accepted(
    media_type: str, key: str, platform: dict[str, str] | None
) -> None:
    document = image() if media_type == OCI_MANIFEST else index()
    one = entry(OCI_MANIFEST if key == "manifests" else LAYER) | ({"platform": platform} if platform else {})
    empty = len(json.dumps({**document, key: []}, separators=(",", ":")))
    count = (SIZE_LIMIT - empty) // (len(json.dumps(one, separators=(",", ":"))) + 1)
    raw = json.dumps({**document, key: [one] * count}, separators=(",", ":")).encode()
    assert count > 15_000
    assert len(Manifest.parse(media_type, raw).references()) >= count


def test_four_mebibytes_are_accepted_and_one_byte_more_is_not() -> None:
    assert SIZE_LIMIT == 4 * 1024 * 1024
    raw = dump(image()).ljust(SIZE_LIMIT)
    assert Manifest.parse(OCI_MANIFEST, raw).descriptor.size == SIZE_LIMIT
    assert str(SIZE_LIMIT) in refusal(raw + b" ")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_counted_from_the_document_to_the_innermost_value(opening: bytes, closing: bytes) -> None:
    def nested(levels: int) -> bytes:
        return with_member(b'"x": ' + opening * (levels - 2) + b"1" + closing * (levels - 2))

    Manifest.parse(OCI_MANIFEST, nested(DEPTH_LIMIT))
    for levels in (DEPTH_LIMIT + 1, 900, 100_000):
        assert "nested" in refusal(nested(levels))


# --- bytes that are no document -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig"])
def test_a_document_is_utf_8_without_a_byte_order_mark_and_nothing_else(codec: str) -> None:
    text = json.dumps(image())
    Manifest.parse(OCI_MANIFEST, text.encode("utf-8"))
    assert "not a JSON document" in refusal(text.encode(codec))


@pytest.mark.parametrize(
    "member",
    [
        b'"x": "\xff"',
        b'"x": "\xc0\xaf"',
        b'"x": "\xed\xa0\x80"',
        b'"x": NaN',
        b'"x": Infinity',
        b'"x": -Infinity',
        b'"x": ' + b"9" * 5000,
        b'"x": 01',
        b'"x": "\n"',
        b'"x": 1,',
        b"x: 1",
        b'"x": 1} {',
        b'"schemaVersion": 2',
        b'"layers": []',
        b'"l\\u0061yers": []',
        b'"x": [{"a": 1, "a": 1}]',
        b'"annotations": {"k": "v", "k": "w"}',
    ],
)
def test_what_two_readers_may_read_differently_is_no_document(member: bytes) -> None:
    assert "not a JSON document" in refusal(with_member(member))


@pytest.mark.parametrize("raw", [b"", b" ", b"null", b"[]", b'"x"', b"2", b"true", b"<html>", b"\x00", b"\x1f\x8b\x08"])
def test_a_document_is_an_object(raw: bytes) -> None:
    refusal(raw)


def test_lone_surrogates_outside_of_descriptors_are_kept_as_bytes() -> None:
    raw = with_member(b'"annotations": {"\\ud800": "\\udfff"}')
    assert Manifest.parse(OCI_MANIFEST, raw).raw == raw


# --- documents that are not what they came as -----------------------------------------------------------------------


ODD: tuple[Any, ...] = (None, "", "x", "\ud800", 0, 1, 1.0, True, [], [None], [[]], ["x"], {}, {"x": [{}]})


@pytest.mark.parametrize(
    ("media_type", "document"),
    [
        *((media_type, {**image(), **index()}) for media_type in ACCEPTED),
        *((media_type, {**image(), **index(), "mediaType": media_type}) for media_type in ACCEPTED),
        (OCI_INDEX, index(layers=[])),
        (OCI_INDEX, index(config=None)),
        (OCI_INDEX, index(fsLayers=[])),
        (OCI_MANIFEST, image(manifests=None)),
        (OCI_INDEX, image()),
        (OCI_MANIFEST, index()),
        (OCI_MANIFEST, {"schemaVersion": 2}),
        (OCI_INDEX, {"schemaVersion": 2}),
        (OCI_MANIFEST, {"schemaVersion": 2, "fsLayers": []}),
        (OCI_MANIFEST, image(mediaType=DOCKER_MANIFEST)),
        (OCI_INDEX, index(mediaType=OCI_MANIFEST)),
        (OCI_MANIFEST, image(mediaType=[OCI_MANIFEST])),
        (OCI_MANIFEST, image(mediaType="x" * 9999)),
        (OCI_MANIFEST, image(schemaVersion=2.0)),
        *((OCI_MANIFEST, image(mediaType=odd)) for odd in ODD if odd not in (None, "")),
        *((OCI_MANIFEST, image(schemaVersion=odd)) for odd in ODD),
        *((OCI_MANIFEST, image(layers=odd)) for odd in ODD if odd is not None and not isinstance(odd, list)),
        *((OCI_INDEX, index(manifests=odd)) for odd in ODD if odd is not None and not isinstance(odd, list)),
    ],
)
def test_a_document_that_is_not_exactly_the_kind_it_came_as_is_refused(media_type: str, document: Any) -> None:
    refusal(dump(document), media_type)


@pytest.mark.parametrize(
    "media_type", ["", "application/json", LAYER, OCI_INDEX + ";a=b", OCI_INDEX.upper(), "\ud800", "x" * 10_000]
)
def test_only_the_four_media_types_of_manifests_are_parsed(media_type: str) -> None:
    assert "is not that of a manifest or an index" in refusal(dump(image()), media_type)


# --- what cannot be read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "document"),
    [
        (OCI_MANIFEST, image(layers=None)),
        (OCI_MANIFEST, {"schemaVersion": 2, "config": entry()}),
        (OCI_MANIFEST, image(config=None)),
        (OCI_MANIFEST, {"schemaVersion": 2, "layers": [entry()]}),
        (OCI_INDEX, index(manifests=None)),
        *((OCI_MANIFEST, image(mediaType=none)) for none in (None, "")),
        *((OCI_INDEX, index(mediaType=none)) for none in (None, "")),
        *((DOCKER_MANIFEST, image(mediaType=none)) for none in (None, "")),
        (DOCKER_MANIFEST, image()),
        (DOCKER_LIST, index()),
        (OCI_MANIFEST, image(annotations=None)),
        (OCI_INDEX, index(annotations=None)),
        *((OCI_MANIFEST, image(subject=odd)) for odd in ODD),
        *((OCI_MANIFEST, image(config=odd)) for odd in ODD),
        *((OCI_MANIFEST, image(layers=[odd])) for odd in ODD),
        *((OCI_INDEX, index(manifests=[odd])) for odd in ODD),
    ],
)
def test_what_cannot_be_read_is_no_reference_and_the_document_is_kept(media_type: str, document: Any) -> None:
    raw = dump(document)
    manifest = Manifest.parse(media_type, raw)
    assert manifest.raw == raw
    named = {entry()["digest"], entry(content=b"config")["digest"]}
    assert {str(reference.digest) for reference in manifest.references()} <= named
    assert manifest.subject is None


@pytest.mark.parametrize("wrong", [*ODD, "sha256:" + "A" * 64, "sha256:" * 99, "blake3:" + "a" * 64])
def test_a_descriptor_without_a_digest_of_a_known_algorithm_is_left_out(wrong: Any) -> None:
    manifest = Manifest.parse(OCI_MANIFEST, dump(image(layers=[entry(content=b"1"), entry(digest=wrong)])))
    assert [layer.digest for layer in manifest.layers] == [Digest.of(b"1")]
    index_ = Manifest.parse(OCI_INDEX, dump(index(manifests=[entry(OCI_MANIFEST, digest=wrong), entry(OCI_INDEX)])))
    assert [child.media_type for child in index_.children] == [OCI_INDEX]
    assert [child for child, _ in index_.platforms()] == list(index_.children)


@pytest.mark.parametrize("wrong", [odd for odd in (*ODD, " ", "a/b\r\nX: y", "a/b\x00", "\u00e4/b") if odd != "x"])
def test_without_a_media_type_a_layer_is_a_blob_and_the_entry_of_an_index_is_nothing(wrong: Any) -> None:
    manifest = Manifest.parse(OCI_MANIFEST, dump(image(layers=[entry(mediaType=wrong)])))
    assert [(layer.media_type, layer.is_manifest) for layer in manifest.layers] == [(OCTET_STREAM, False)]
    assert Manifest.parse(OCI_INDEX, dump(index(manifests=[entry(mediaType=wrong)]))).references() == ()


@pytest.mark.parametrize(
    "wrong", [odd for odd in (*ODD, -1, 2**63, 10**19, 1e300) if type(odd) is not int or odd not in (0, 1)]
)
def test_a_size_that_cannot_be_read_is_nought(wrong: Any) -> None:
    config = Manifest.parse(OCI_MANIFEST, dump(image(config=entry(size=wrong)))).config
    assert config is not None and config.size == 0


@pytest.mark.parametrize("size", [0, 1, 2**53 + 1, 2**63 - 1])
def test_a_size_is_any_whole_number_of_bytes_that_a_database_holds(size: int) -> None:
    assert Manifest.parse(OCI_MANIFEST, dump(image(layers=[entry(size=size)]))).layers[0].size == size


# --- properties -----------------------------------------------------------------------------------------------------

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.just(OCI_INDEX))
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
ENTRIES = st.builds(entry, st.sampled_from([LAYER, *ACCEPTED]), st.binary(max_size=2))
LISTS = st.lists(ENTRIES, max_size=2)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.sampled_from([2, 2, 2, 2, 1, 2.0, "2", None]),
        "mediaType": st.sampled_from([*ACCEPTED, LAYER, None]),
        "manifests": LISTS,
        "config": ENTRIES,
        "layers": LISTS,
        "subject": st.none() | ENTRIES,
        "annotations": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    },
)


def is_wanted(document: dict[str, Any], media_type: str) -> bool:
    """Check what a document of DOCUMENTS must be like, case by case."""
    version, keys = document.get("schemaVersion"), document.keys()
    if type(version) is not int or version != 2:
        return False
    if document.get("mediaType") not in (None, media_type):
        return False
    if media_type in (OCI_INDEX, DOCKER_LIST):
        return "manifests" in keys and "config" not in keys and "layers" not in keys
    return "manifests" not in keys and ("config" in keys or "layers" in keys)


@settings(deadline=None)
@given(DOCUMENTS)
def test_a_document_is_accepted_exactly_if_it_is_the_kind_it_came_as(document: dict[str, Any]) -> None:
    raw, kinds = dump(document), set()
    for media_type in ACCEPTED:
        try:
            manifest = Manifest.parse(media_type, raw)
        except ManifestInvalid:
            assert not is_wanted(document, media_type)
            continue
        assert is_wanted(document, media_type)
        image_of = [document[key] for key in ("config",) if key in document] + document.get("layers", [])
        listed = document.get("manifests", image_of)
        assert [(r.media_type, str(r.digest), r.size) for r in manifest.references()] == [
            (e["mediaType"], e["digest"], e["size"]) for e in listed
        ]
        kinds.add("manifests" in document)
    assert len(kinds) <= 1


@settings(deadline=None)
@given(st.sampled_from(ACCEPTED), st.sampled_from(["config", "layers", "manifests", "subject", "mediaType"]), JSON)
def test_a_field_with_any_value_is_read_or_refused_and_nothing_else(media_type: str, key: str, value: Any) -> None:
    document = image() if media_type in (OCI_MANIFEST, DOCKER_MANIFEST) else index()
    for wrong in ({**document, key: value}, {"mediaType": media_type, **document, key: [value]}):
        try:
            assert Manifest.parse(media_type, dump(wrong)).raw == dump(wrong)
        except ManifestInvalid as refused:
            str(refused).encode("utf-8")


@settings(deadline=None)
@given(st.binary(), st.integers(0, 400), st.integers(0, 400))
@example(b"\xff", 0, 0)
@example(b"NaN", 18, 19)
def test_any_bytes_are_a_manifest_named_by_them_or_refused(junk: bytes, start: int, end: int) -> None:
    good = dump(image())
    for raw in (junk, good[:start] + junk + good[end:]):
        try:
            manifest = Manifest.parse(OCI_MANIFEST, raw)
        except ManifestInvalid as refused:
            str(refused).encode("utf-8")
        else:
            assert manifest.raw == raw
            assert manifest.descriptor.digest.holds_for(raw)
            assert {"config", "layers"} & json.loads(raw).keys()


def test_what_a_manifest_takes_in_memory_counts_its_descriptors() -> None:
    small = [{"mediaType": "a/b", "digest": f"sha256:{number:064x}", "size": 10**9 + number} for number in range(1000)]
    raw = json.dumps({"schemaVersion": 2, "manifests": small}, separators=(",", ":")).encode()
    tracemalloc.start()
    manifests = [Manifest.parse(OCI_INDEX, raw) for _ in range(10)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(manifest.memory - len(raw) for manifest in manifests) > taken * 0.9
