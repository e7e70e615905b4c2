"""Pushing blobs: whole, in streams and in chunks; what does not fit is refused, and what arrived stays."""

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import quote

import pytest
import pytest_asyncio
from starlette.types import Scope

from cache.oci.digest import Digest
from cache.store.filesystem import FilesystemStore
from gateway.auth.principal import ANONYMOUS
from gateway.v2 import routes
from tests.gateway.v2.pushing import PushSurface, open_surface
from tests.parts.images import digest_of, seeded

NAME = "team/app/image"
CONTENT = seeded("pushed", 3_000)
DIGEST = digest_of(CONTENT)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("uploads") / "data") as surface:
        yield surface


async def check_readable(surface: PushSurface, name: str, content: bytes) -> None:
    digest = digest_of(content)
    found = await surface.call("GET", f"{name}/blobs/{digest}")
    assert (found.status, found.body) == (200, content)
    assert found.headers["docker-content-digest"] == digest
    assert "x-cache" not in found.headers
    assert (await surface.call("HEAD", f"{name}/blobs/{digest}")).headers["content-length"] == str(len(content))


async def test_a_blob_is_pushed_with_one_request(surface: PushSurface) -> None:
    content = CONTENT + b"with one request"
    digest = digest_of(content)
    made = await surface.call("POST", f"{NAME}/blobs/uploads/?digest={quote(digest)}", content, who="developer")
    assert made.status == 201
    assert made.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    assert made.headers["docker-content-digest"] == digest
    await check_readable(surface, NAME, content)


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_push_with_one_request_that_fails_leaves_no_upload(surface: PushSurface, leaves: bool) -> None:
    digest = digest_of(CONTENT + b"whole")
    failed = await surface.call("POST", f"{NAME}/blobs/uploads/?digest={quote(digest)}", CONTENT, leaves=leaves)
    assert leaves or failed.status == 400
    uploads = surface.services.folder.data / "spool" / "uploads"
    assert list(uploads.iterdir()) == []
    connection = sqlite3.connect(surface.services.folder.data / "gateway.db")
    with closing(connection):
        assert connection.execute("SELECT count(*) FROM uploads").fetchall() == [(0,)]


async def test_a_blob_is_pushed_with_the_request_that_ends_its_upload(surface: PushSurface) -> None:
    content = CONTENT + b"with the end"
    upload = await surface.begin(NAME)
    made = await surface.call("PUT", f"{upload}?digest={quote(digest_of(content))}", content)
    assert made.status == 201
    await check_readable(surface, NAME, content)


async def test_a_blob_is_pushed_as_a_stream_without_a_length(surface: PushSurface) -> None:
    content = CONTENT + b"as a stream"
    upload = await surface.begin(NAME)
    appended = await surface.call("PATCH", upload, [content[:1_000], content[1_000:]])
    assert (appended.status, appended.headers["range"]) == (202, f"0-{len(content) - 1}")
    assert appended.headers["location"] == f"/v2/{upload}"
    assert (await surface.call("PUT", f"{upload}?digest={digest_of(content)}")).status == 201
    await check_readable(surface, NAME, content)


@pytest.mark.parametrize("spelling", ["{}-{}", "bytes {}-{}/*", "bytes={}-{}"])
async def test_a_blob_is_pushed_in_chunks_of_which_the_last_one_ends_it(surface: PushSurface, spelling: str) -> None:
    content = CONTENT + spelling.encode()
    upload, half, size = await surface.begin(NAME), 1_500, len(content)
    first = [("Content-Range", spelling.format(0, half - 1))]
    assert (await surface.call("PATCH", upload, content[:half], headers=first)).status == 202
    last = [("Content-Range", spelling.format(half, size - 1))]
    ended = await surface.call("PUT", f"{upload}?digest={digest_of(content)}", content[half:], headers=last)
    assert ended.status == 201
    await check_readable(surface, NAME, content)


async def test_an_empty_blob_can_be_pushed(surface: PushSurface) -> None:
    upload = await surface.begin(NAME)
    assert (await surface.call("PUT", f"{upload}?digest={digest_of(b'')}")).status == 201
    await check_readable(surface, NAME, b"")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_chunk_out_of_order_is_told_where_the_upload_goes_on(surface: PushSurface, method: str) -> None:
    upload = await surface.begin(NAME)
    assert (await surface.call("PATCH", upload, CONTENT[:100])).status == 202
    target = upload if method == "PATCH" else f"{upload}?digest={DIGEST}"
    refused = await surface.call(method, target, CONTENT[200:], headers=[("Content-Range", "200-2999")])
    assert (refused.status, refused.error["code"]) == (416, "RANGE_INVALID")
    assert refused.headers["range"] == "0-99"
    assert refused.headers["location"] == f"/v2/{upload}"
    shown = await surface.call("GET", upload)
    assert (shown.status, shown.headers["range"], shown.headers["location"]) == (204, "0-99", f"/v2/{upload}")
    rest = [("Content-Range", f"100-{len(CONTENT) - 1}")]
    assert (await surface.call("PUT", f"{upload}?digest={DIGEST}", CONTENT[100:], headers=rest)).status == 201


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ("100-199", "SIZE_INVALID", "states 100 bytes and Content-Length 50"),
        ("9-3", "BLOB_UPLOAD_INVALID", "ends before it begins"),
        ("0-49-", "BLOB_UPLOAD_INVALID", "first and the last offset"),
        ("-49", "BLOB_UPLOAD_INVALID", "first and the last offset"),
        ("0-", "BLOB_UPLOAD_INVALID", "first and the last offset"),
        ("a-b", "BLOB_UPLOAD_INVALID", "first and the last offset"),
        ("0-" + "9" * 30, "BLOB_UPLOAD_INVALID", "first and the last offset"),
    ],
)
async def test_a_range_that_cannot_be_right_is_refused(surface: PushSurface, given: str, code: str, says: str) -> None:
    upload = await surface.begin(NAME)
    refused = await surface.call("PATCH", upload, CONTENT[:50], headers=[("Content-Range", given)])
    assert (refused.status, refused.error["code"]) == (400, code)
    assert says in refused.error["message"]
    assert (await surface.call("GET", upload)).headers["range"] == "0-0"


async def test_a_blob_of_another_digest_is_refused_and_its_upload_ends(surface: PushSurface) -> None:
    upload = await surface.begin(NAME)
    refused = await surface.call("PUT", f"{upload}?digest={digest_of(b'another')}", CONTENT)
    assert (refused.status, refused.error["code"]) == (400, "DIGEST_INVALID")
    assert (await surface.call("GET", upload)).error["code"] == "BLOB_UPLOAD_UNKNOWN"
    assert (await surface.call("GET", f"{NAME}/blobs/{digest_of(b'another')}")).error["code"] == "BLOB_UNKNOWN"


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=latest", "?digest=md5:00", "?digest=sha256:abc"])
async def test_an_upload_ends_with_a_valid_digest_alone(surface: PushSurface, query: str) -> None:
    upload = await surface.begin(NAME)
    refused = await surface.call("PUT", upload + query, CONTENT)
    assert (refused.status, refused.error["code"]) == (400, "DIGEST_INVALID")
    assert (await surface.call("GET", upload)).status == 204


async def test_an_upload_that_was_cancelled_is_gone(surface: PushSurface) -> None:
    upload = await surface.begin(NAME)
    assert (await surface.call("DELETE", upload)).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        gone = await surface.call(method, upload)
        assert gone.status == 404
        assert gone.error["code"] == "BLOB_UPLOAD_UNKNOWN"


async def test_what_arrived_from_a_client_that_left_stays(surface: PushSurface) -> None:
    upload, content = await surface.begin(NAME), CONTENT + b"left"
    left = await surface.call("PATCH", upload, content[:1_000], leaves=True)
    assert left.status == 400
    assert (await surface.call("GET", upload)).headers["range"] == "0-999"
    assert (await surface.call("PUT", f"{upload}?digest={digest_of(content)}", content[1_000:])).status == 201
    await check_readable(surface, NAME, content)


async def test_an_upload_belongs_to_whoever_began_it_and_to_its_repository(surface: PushSurface) -> None:
    upload = await surface.begin(NAME, who="developer")
    id = upload.rpartition("/")[2]
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        target = f"{upload}?digest={DIGEST}"
        assert (await surface.call(method, target, b"", who="maintainer")).error["code"] == "BLOB_UPLOAD_UNKNOWN"
        elsewhere = target.replace(NAME, "team/lib")
        assert (await surface.call(method, elsewhere, b"", who="developer")).error["code"] == "BLOB_UPLOAD_UNKNOWN"
    assert (await surface.call("GET", f"{NAME}/blobs/uploads/{id}", who="developer")).status == 204


@pytest.mark.parametrize("id", ["0", "..", "a" * 129, "a.b", "x:y", "~"])
async def test_an_id_that_is_none_is_unknown(surface: PushSurface, id: str) -> None:
    assert (await surface.call("GET", f"{NAME}/blobs/uploads/{id}")).error["code"] == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br, gzip"])
async def test_a_body_that_is_encoded_for_its_way_is_refused(surface: PushSurface, encoding: str) -> None:
    upload, headers = await surface.begin(NAME), [("Content-Encoding", encoding)]
    whole = f"{NAME}/blobs/uploads/?digest={DIGEST}"
    for method, target in (("PATCH", upload), ("PUT", f"{upload}?digest={DIGEST}"), ("POST", whole)):
        refused = await surface.call(method, target, CONTENT, headers=headers)
        assert (refused.status, refused.error["code"]) == (415, "UNSUPPORTED")
    assert (await surface.call("GET", upload)).headers["range"] == "0-0"
    plain = [("Content-Encoding", "identity")]
    assert (await surface.call("PATCH", upload, CONTENT, headers=plain)).status == 202


async def test_a_sha512_names_a_blob_as_well(surface: PushSurface) -> None:
    digest = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
    upload = await surface.begin(NAME)
    assert (await surface.call("PUT", f"{upload}?digest={digest}", CONTENT)).status == 201
    assert (await surface.call("GET", f"{NAME}/blobs/{digest}")).body == CONTENT


async def test_who_may_not_push_begins_no_upload(surface: PushSurface) -> None:
    for who, status in (("reporter", 403), ("stranger", 404)):
        assert (await surface.call("POST", f"{NAME}/blobs/uploads/", who=who)).status == status
    listed = surface.person("developer", {NAME: "pull"})
    assert (await surface.call("POST", f"{NAME}/blobs/uploads/", who=listed)).status == 401


# Mounts


async def test_a_blob_is_mounted_from_a_repository_that_the_caller_may_pull(surface: PushSurface) -> None:
    digest = await surface.push_blob("team/lib/base", b"of the library")
    made = await surface.call("POST", f"{NAME}/blobs/uploads/?mount={digest}&from=team/lib/base", who="developer")
    assert made.status == 201
    assert made.headers["location"] == f"/v2/{NAME}/blobs/{digest}"
    await check_readable(surface, NAME, b"of the library")


@pytest.mark.parametrize(
    "source", ["closed/secret/base", "team/lib/none", "absent/project/x", "team", "Not/A/Name", ""]
)
async def test_a_mount_from_elsewhere_becomes_an_upload(surface: PushSurface, source: str) -> None:
    content = f"unknown in {source!r}".encode()
    digest = await surface.push_blob("closed/secret/base", content, who="root")
    path = f"{NAME}/blobs/uploads/?mount={digest}&from={quote(source)}"
    begun = await surface.call("POST", path, who="developer")
    assert begun.status == 202
    assert (await surface.call("GET", f"{NAME}/blobs/{digest}")).status == 404
    ended = await surface.call("PUT", f"{begun.headers['location'][4:]}?digest={digest}", content, who="developer")
    assert ended.status == 201


async def test_a_mount_without_a_source_takes_what_the_caller_may_pull_anywhere(surface: PushSurface) -> None:
    readable = await surface.push_blob("team/lib/any", b"somewhere")
    hidden = await surface.push_blob("closed/secret/any", b"out of sight", who="root")
    for digest, status in ((readable, 201), (hidden, 202), (digest_of(b"nowhere"), 202)):
        begun = await surface.call("POST", f"{NAME}/blobs/uploads/?mount={digest}", who="developer")
        assert begun.status == status
    assert (await surface.call("GET", f"{NAME}/blobs/{hidden}")).status == 404


async def test_a_bearer_token_without_the_source_of_a_mount_is_told_which_scopes_it_needs(surface: PushSurface) -> None:
    digest = await surface.push_blob("team/lib/scoped", b"scoped")
    both = {NAME: "pull,push", "team/lib/scoped": "pull"}
    path = f"{NAME}/blobs/uploads/?mount={digest}&from=team/lib/scoped"
    refused = await surface.call("POST", path, who=surface.person("developer", {NAME: "pull,push"}))
    assert refused.status == 401
    assert f'scope="repository:{NAME}:pull,push repository:team/lib/scoped:pull"' in refused.headers["www-authenticate"]
    assert (await surface.call("POST", path, who=surface.person("developer", both))).status == 201


async def test_a_bearer_token_learns_nothing_of_a_source_that_its_owner_may_not_pull(surface: PushSurface) -> None:
    digest = await surface.push_blob("closed/secret/scoped", b"not for developers", who="root")
    narrow = surface.person("developer", {NAME: "pull,push"})
    for source in ("closed/secret/scoped", "absent/secret/scoped"):
        begun = await surface.call("POST", f"{NAME}/blobs/uploads/?mount={digest}&from={source}", who=narrow)
        assert begun.status == 202


async def test_a_cached_blob_of_an_upstream_is_mounted_without_a_request_to_it(surface: PushSurface) -> None:
    digest = await surface.cache_blob("library/tiny", b"base layer")
    source = "hub/dependency_proxy/containers/tiny"
    made = await surface.call("POST", f"{NAME}/blobs/uploads/?mount={digest}&from={source}", who="developer")
    assert made.status == 201
    await check_readable(surface, NAME, b"base layer")


async def test_a_mount_that_finds_a_cached_blob_damaged_takes_it_from_every_reader(surface: PushSurface) -> None:
    """Its size is right: until somebody hashes it, pulls would be hits with wrong bytes."""
    digest = await surface.cache_blob("library/tiny", b"a rotten base layer")
    store, parsed = surface.services.pull_through.store, Digest.parse(digest)
    assert isinstance(store, FilesystemStore)
    store.path(parsed).chmod(0o644)
    store.path(parsed).write_bytes(b"A rotten base layer")
    source = "hub/dependency_proxy/containers/tiny"
    begun = await surface.call("POST", f"{NAME}/blobs/uploads/?mount={digest}&from={source}", who="developer")
    assert begun.status == 202
    assert not store.path(parsed).exists()
    assert await surface.services.index.find_size(parsed) is None
    counted = surface.services.metrics.exposition().decode()
    assert 'gateway_cache_damaged_total{damage="digest"} 1.0' in counted


async def test_what_an_image_of_an_upstream_does_not_hold_here_is_uploaded(surface: PushSurface) -> None:
    digest = await surface.cache_blob("library/tiny", b"another base layer")
    for image in ("other", "absent.example/x"):  # the cache has no right of these to it
        source = f"hub/dependency_proxy/containers/{image}"
        begun = await surface.call("POST", f"{NAME}/blobs/uploads/?mount={digest}&from={source}", who="developer")
        assert begun.status == 202
    assert (await surface.call("GET", f"{NAME}/blobs/{digest}")).status == 404


async def test_a_mount_needs_a_digest(surface: PushSurface) -> None:
    refused = await surface.call("POST", f"{NAME}/blobs/uploads/?mount=latest&from=team/lib")
    assert (refused.status, refused.error["code"]) == (400, "DIGEST_INVALID")


async def test_an_upload_outlives_the_credential_with_which_a_person_began_it(surface: PushSurface) -> None:
    upload = await surface.begin(NAME, who="developer")
    other = replace(surface.person("developer"), ref=None)
    assert (await surface.call("GET", upload, who=other)).status == 204


async def test_a_connection_keeps_its_place_for_the_body_of_whoever_has_a_credential(
    surface: PushSurface, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Scope] = []
    monkeypatch.setattr(routes, "note_accepted", noted.append)
    assert (await surface.call("POST", f"{NAME}/blobs/uploads/", who=ANONYMOUS)).status == 401
    assert noted == []
    assert (await surface.call("POST", f"{NAME}/blobs/uploads/", who="developer")).status == 202
    assert len(noted) == 1
