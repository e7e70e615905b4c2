"""Pushing manifests, lists of tags and referrers, and deletions, at the surface over real stores."""

import hashlib
import json
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio

from cache.oci.manifest import SIZE_LIMIT
from cache.oci.media_types import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.gateway.v2.pushing import PushSurface, image, open_surface
from tests.parts.images import digest_of

NAME = "team/app/image"
ABSENT = digest_of(b"absent")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("manifests") / "data") as surface:
        yield surface


async def pushed(surface: PushSurface, text: str, name: str = NAME, **fields: object) -> bytes:
    """An image whose blobs have been pushed, and which itself has not."""
    config = await surface.push_blob(name, f"config of {text}".encode())
    return image(config, await surface.push_blob(name, f"layer of {text}".encode()), **fields)


def index(*children: bytes, **fields: object) -> bytes:
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)} for raw in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries} | fields).encode()


async def test_a_manifest_is_served_byte_for_byte(surface: PushSurface) -> None:
    raw = await pushed(surface, "bytes", annotations={"b": "1", "a": "2"})
    made = await surface.put_manifest(NAME, "bytes", raw, who="developer")
    assert made.status == 201
    assert made.headers["location"] == f"/v2/{NAME}/manifests/{digest_of(raw)}"
    assert made.headers["docker-content-digest"] == digest_of(raw)
    assert "oci-subject" not in made.headers
    for reference in ("bytes", digest_of(raw)):
        found = await surface.call("GET", f"{NAME}/manifests/{reference}", who="reporter")
        assert (found.status, found.body, found.headers["content-type"]) == (200, raw, OCI_MANIFEST)
        assert "x-cache" not in found.headers
        shown = await surface.call("HEAD", f"{NAME}/manifests/{reference}")
        assert (shown.status, shown.headers["content-length"]) == (200, str(len(raw)))


async def test_a_push_sets_several_tags(surface: PushSurface) -> None:
    raw = await pushed(surface, "several")
    made = await surface.put_manifest(NAME, f"{digest_of(raw)}?tag=one&tag=two&tag=one", raw)
    assert (made.status, made.headers["oci-tag"]) == (201, "one, two")
    also = await surface.put_manifest(NAME, "three?tag=four", raw)
    assert also.headers["oci-tag"] == "four"
    for tag in ("one", "two", "three", "four"):
        assert (await surface.call("GET", f"{NAME}/manifests/{tag}")).body == raw


async def test_a_push_sets_no_more_tags_than_a_hundred(surface: PushSurface) -> None:
    raw = await pushed(surface, "many")
    tags = "&".join(f"tag=t{number}" for number in range(101))
    refused = await surface.put_manifest(NAME, f"{digest_of(raw)}?{tags}", raw)
    assert (refused.status, refused.error["code"]) == (400, "TAG_INVALID")
    assert (await surface.put_manifest(NAME, f"{digest_of(raw)}?tag=.bad", raw)).error["code"] == "TAG_INVALID"


async def test_a_manifest_must_have_the_digest_that_the_client_states(surface: PushSurface) -> None:
    raw = await pushed(surface, "stated")
    for reference in (ABSENT, f"tagged?digest={ABSENT}", f"{digest_of(raw)}?digest={ABSENT}"):
        refused = await surface.put_manifest(NAME, reference, raw)
        assert (refused.status, refused.error["code"]) == (400, "DIGEST_INVALID")
    assert (await surface.put_manifest(NAME, f"tagged?digest={digest_of(raw)}", raw)).status == 201


@pytest.mark.parametrize(
    ("media_type", "raw", "says"),
    [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}", "Docker 17.12 or later"),
        ("application/vnd.docker.distribution.manifest.v1+json", b'{"schemaVersion":1}', "Docker 17.12 or later"),
        ("application/json", b"{}", "is not that of a manifest"),
        ("text/html", b"<html>", "is not that of a manifest"),
        (OCI_MANIFEST, b"", "not a JSON document"),
        (OCI_MANIFEST, b"[]", "must be a JSON object"),
        (OCI_MANIFEST, b"[" * 100_000, "nested"),
        (OCI_MANIFEST, b'{"schemaVersion":2,"schemaVersion":2}', "same key twice"),
        (OCI_MANIFEST, b'{"schemaVersion":2,"layers":[],"manifests":[]}', "an image and an index at once"),
        (OCI_MANIFEST, b'{"schemaVersion":2,"layers":[],"mediaType":"a/b"}', "as which the document was sent"),
        (DOCKER_MANIFEST, b'{"schemaVersion":1,"layers":[]}', "schemaVersion must be 2"),
        ("", b"{}", "states the media type"),
        ("", b"no document", "not a JSON document"),
    ],
)
async def test_what_is_no_manifest_is_refused(surface: PushSurface, media_type: str, raw: bytes, says: str) -> None:
    headers = [("Content-Type", media_type)] if media_type else []
    refused = await surface.put_manifest(NAME, "refused", raw, headers=headers)
    assert (refused.status, refused.error["code"]) == (400, "MANIFEST_INVALID")
    assert says in refused.error["message"]
    assert (await surface.call("GET", f"{NAME}/manifests/refused")).status == 404


async def test_a_document_may_state_its_media_type_alone(surface: PushSurface) -> None:
    raw = await pushed(surface, "own media type")
    assert (await surface.put_manifest(NAME, "own", raw, headers=[])).status == 201
    parameters = [("Content-Type", f"{OCI_MANIFEST}; charset=utf-8")]
    assert (await surface.put_manifest(NAME, "own", raw, headers=parameters)).status == 201


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_manifest_of_more_than_four_mebibytes_is_refused(surface: PushSurface, chunked: bool) -> None:
    raw = await pushed(surface, "large")
    fitting = raw + b" " * (SIZE_LIMIT - len(raw))
    assert (await surface.put_manifest(NAME, "fitting", fitting)).status == 201
    body = [fitting, b" "] if chunked else fitting + b" "
    headers = [("Content-Type", OCI_MANIFEST)]
    refused = await surface.call("PUT", f"{NAME}/manifests/larger", body, headers=headers)
    assert (refused.status, refused.error["code"]) == (413, "SIZE_INVALID")
    assert str(SIZE_LIMIT) in refused.error["message"]


async def test_a_manifest_whose_client_left_is_not_stored(surface: PushSurface) -> None:
    raw, headers = await pushed(surface, "left"), [("Content-Type", OCI_MANIFEST)]
    left = await surface.call("PUT", f"{NAME}/manifests/left", raw, headers=headers, leaves=True)
    assert left.status == 400
    assert (await surface.call("GET", f"{NAME}/manifests/left")).status == 404


@pytest.mark.parametrize("listed", [None, {NAME: "pull,push"}], ids=["by a password", "by a Bearer token"])
async def test_missing_content_is_named_with_a_readable_repository_that_has_it(
    listed: dict[str, str] | None, surface: PushSurface
) -> None:
    raw = await pushed(surface, "elsewhere", "team/lib/parts")
    hidden = await surface.push_blob("closed/secret/parts", b"hidden part", who="root")
    here = image(hidden, *[layer["digest"] for layer in json.loads(raw)["layers"]], ABSENT)
    refused = await surface.put_manifest(NAME, "missing", here, who=surface.person("developer", listed))
    assert (refused.status, refused.error["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    for digest in (hidden, ABSENT, json.loads(raw)["layers"][0]["digest"]):
        assert digest in json.dumps(refused.error)
    assert "team/lib/parts" in json.dumps(refused.error)
    assert "closed/secret" not in json.dumps(refused.error)


async def test_a_subject_is_confirmed_and_lists_its_referrers_by_type(surface: PushSurface) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": ABSENT, "size": 3}
    for kind in ("one", "two"):
        raw = await pushed(surface, f"referrer {kind}", subject=subject, artifactType=f"example/{kind}")
        made = await surface.put_manifest(NAME, digest_of(raw), raw)
        assert made.headers["oci-subject"] == ABSENT
    every = await surface.call("GET", f"{NAME}/referrers/{ABSENT}")
    assert (every.status, every.headers["content-type"]) == (200, OCI_INDEX)
    assert [entry["artifactType"] for entry in json.loads(every.body)["manifests"]] == ["example/one", "example/two"]
    assert "oci-filters-applied" not in every.headers
    some = await surface.call("GET", f"{NAME}/referrers/{ABSENT}?artifactType=example/two")
    assert [entry["digest"] for entry in json.loads(some.body)["manifests"]] == [digest_of(raw)]
    assert some.headers["oci-filters-applied"] == "artifactType"
    nothing = await surface.call("GET", f"{NAME}/referrers/{digest_of(b'nothing refers to it')}")
    assert (nothing.status, json.loads(nothing.body)["manifests"]) == (200, [])


async def test_pages_of_referrers_are_linked(surface: PushSurface, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.registry.native.PAGE_COUNT", 2)
    monkeypatch.setattr("gateway.registry.referrers.PAGE_COUNT", 2)
    name, subject = "team/app/signed", {"mediaType": OCI_MANIFEST, "digest": ABSENT, "size": 3}
    raws = [await pushed(surface, f"signature {number}", name, subject=subject) for number in range(5)]
    for raw in raws:
        await surface.put_manifest(name, digest_of(raw), raw)
    found, target = [], f"{name}/referrers/{ABSENT}?artifactType=application/vnd.oci.image.config.v1%2Bjson"
    while target:
        page = await surface.call("GET", target)
        found += [entry["digest"] for entry in json.loads(page.body)["manifests"]]
        target = next_target(page.headers.get("link"))
    assert found == [digest_of(raw) for raw in raws]
    wrong = await surface.call("GET", f"{name}/referrers/{ABSENT}?after=x")
    assert wrong.error["code"] == "PAGINATION_NUMBER_INVALID"


async def test_pages_of_tags_are_linked(surface: PushSurface) -> None:
    name = "team/app/tagged"
    tags = [f"v{number}" for number in range(5)]
    await surface.push_image(name, *tags)
    found, target = [], f"{name}/tags/list?n=2"
    while target:
        page = json.loads((answer := await surface.call("GET", target)).body)
        assert page["name"] == name and len(page["tags"]) <= 2
        found += page["tags"]
        target = next_target(answer.headers.get("link"))
    assert found == tags
    after = await surface.call("GET", f"{name}/tags/list?last=v2")
    assert json.loads(after.body)["tags"] == ["v3", "v4"]
    none = await surface.call("GET", f"{name}/tags/list?n=0")
    assert json.loads(none.body)["tags"] == []
    assert "link" not in none.headers


def next_target(link: str | None) -> str:
    """The path and query below /v2/ of a Link header; empty without one."""
    if link is None:
        return ""
    assert link.startswith("<http://127.0.0.1:8080/v2/") and link.endswith('>; rel="next"')
    parts = urlsplit(link[1:].partition(">")[0])
    return f"{parts.path.removeprefix('/v2/')}?{parts.query}"


async def test_a_missing_tag_is_told_which_there_are(surface: PushSurface) -> None:
    name = "team/app/few"
    await surface.push_image(name, *(f"v{number}" for number in range(7)))
    missing = await surface.call("GET", f"{name}/manifests/latest", who="reporter")
    assert (missing.status, missing.error["code"]) == (404, "MANIFEST_UNKNOWN")
    assert missing.error["message"] == "there is no tag 'latest'; there are v0, v1, v2, v3, v4 and more"
    assert "there are" not in str((await surface.call("GET", f"{name}/manifests/{ABSENT}")).error)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_that_knows_schema_1_alone_is_told_what_to_do(surface: PushSurface, method: str) -> None:
    await surface.push_image("team/app/old", "latest")
    old = "application/vnd.docker.distribution.manifest.v1+"
    for accept in ([f"{old}prettyjws"], [f"{old}json", f"{old}prettyjws, application/json"]):
        headers = [("Accept", value) for value in accept]
        refused = await surface.call(method, "team/app/old/manifests/latest", headers=headers)
        assert refused.status == 404
        assert method == "HEAD" or "Docker 17.12 or later" in refused.error["message"]
    for more in (OCI_MANIFEST, "*/*"):
        headers = [("Accept", f"{old}prettyjws"), ("Accept", more)]
        assert (await surface.call(method, "team/app/old/manifests/latest", headers=headers)).status == 200


async def test_a_tag_is_deleted_alone(surface: PushSurface) -> None:
    name = "team/app/deleted"
    digest = await surface.push_image(name, "one", "two", "three")
    assert (await surface.call("DELETE", f"{name}/manifests/one")).status == 202
    assert (await surface.call("DELETE", f"{name}/tags/reference/two")).status == 202
    for path in (f"{name}/manifests/one", f"{name}/tags/reference/two"):
        assert (await surface.call("DELETE", path)).error["code"] == "MANIFEST_UNKNOWN"
    assert json.loads((await surface.call("GET", f"{name}/tags/list")).body)["tags"] == ["three"]
    assert (await surface.call("GET", f"{name}/manifests/{digest}")).status == 200


async def test_a_manifest_is_deleted_with_its_tags(surface: PushSurface) -> None:
    name = "team/app/gone"
    digest = await surface.push_image(name, "one", "two")
    deleted = await surface.call("DELETE", f"{name}/manifests/{digest}")
    assert deleted.status == 202
    assert deleted.headers["warning"].startswith('299 - "until 2')
    assert f"at least, 'registry-gateway tag restore {name}:TAG' restores it" in deleted.headers["warning"]
    for reference in ("one", "two", digest):
        assert (await surface.call("GET", f"{name}/manifests/{reference}")).status == 404
    assert (await surface.call("DELETE", f"{name}/manifests/{digest}")).error["code"] == "MANIFEST_UNKNOWN"


async def test_a_blob_is_deleted_from_one_repository(surface: PushSurface) -> None:
    digest = await surface.push_blob("team/app/blobs", b"deleted")
    await surface.push_blob("team/lib/blobs", b"deleted")
    deleted = await surface.call("DELETE", f"team/app/blobs/blobs/{digest}")
    assert (deleted.status, deleted.headers["warning"]) == (202, '299 - "the blob is restored by pushing it again"')
    assert (await surface.call("GET", f"team/app/blobs/blobs/{digest}")).error["code"] == "BLOB_UNKNOWN"
    assert (await surface.call("DELETE", f"team/app/blobs/blobs/{digest}")).error["code"] == "BLOB_UNKNOWN"
    assert (await surface.call("GET", f"team/lib/blobs/blobs/{digest}")).body == b"deleted"


async def test_developers_delete_nothing(surface: PushSurface) -> None:
    name = "team/app/kept"
    digest = await surface.push_image(name, "latest")
    blob = await surface.push_blob(name, b"kept")
    for path in ("manifests/latest", f"manifests/{digest}", "tags/reference/latest", f"blobs/{blob}"):
        refused = await surface.call("DELETE", f"{name}/{path}", who="developer")
        assert (refused.status, refused.error["code"]) == (403, "DENIED")
    assert (await surface.call("GET", f"{name}/manifests/latest")).status == 200


async def test_an_index_is_pushed_once_its_images_are(surface: PushSurface) -> None:
    name = "team/app/multi"
    children = [await pushed(surface, f"platform {number}", name) for number in range(2)]
    raw, headers = index(*children), [("Content-Type", OCI_INDEX)]
    refused = await surface.put_manifest(name, "latest", raw, headers=headers)
    assert refused.error["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert "blob unknown to registry" in refused.error["message"]
    for child in children:
        await surface.put_manifest(name, digest_of(child), child)
    assert (await surface.put_manifest(name, "latest", raw, headers=headers)).status == 201
    assert (await surface.call("GET", f"{name}/manifests/latest")).body == raw


async def test_a_manifest_by_sha512_is_found_by_it(surface: PushSurface) -> None:

    raw = await pushed(surface, "sha512")
    digest = f"sha512:{hashlib.sha512(raw).hexdigest()}"
    made = await surface.put_manifest(NAME, quote(digest), raw)
    assert (made.status, made.headers["docker-content-digest"]) == (201, digest)
    assert (await surface.call("GET", f"{NAME}/manifests/{digest}")).body == raw
