"""Names that groups, projects and repositories had before they moved: pulled with a warning, pushed to in vain."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from cache.oci.errors import Denied, NameUnknown, RegistryError
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from gateway.auth.matrix import Action
from gateway.auth.principal import ANONYMOUS
from gateway.db import moves, old_paths
from gateway.db.connection import Connection
from gateway.db.engine import DATABASE_FILE, Database
from gateway.db.moves import Moved
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from tests.gateway.asgi import Exchange
from tests.gateway.v2.pushing import PushSurface, image, open_surface
from tests.parts.images import digest_of

KEPT = timedelta(days=90)
PUSHERS, PUSHES, ATTEMPTS = 4, 5, 50
Move = Callable[[Connection, str, str, datetime, timedelta], Awaitable[Moved]]


@pytest.fixture
async def surface(tmp_path: Path) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path / "data") as surface:
        yield surface


async def move(surface: PushSurface, by: Move, old: str, new: str, kept: timedelta = KEPT) -> Moved:
    """Move as another process does, such as a command."""
    async with Database.open(surface.services.folder.data / DATABASE_FILE) as database, database.write() as connection:
        return await by(connection, old, new, datetime.now(UTC), kept)


async def pulled(surface: PushSurface, name: str, digest: str, who: str = "reporter") -> list[Exchange]:
    """All that can be pulled of an image."""
    found = [
        await surface.call(method, f"{name}/{path}", who=who)
        for method, path in [
            *[("GET", "manifests/v1"), ("HEAD", f"manifests/{digest}"), ("GET", f"blobs/{digest_of(b'layer of one')}")],
            *[("HEAD", f"blobs/{digest_of(b'layer of one')}"), ("GET", "tags/list"), ("GET", f"referrers/{digest}")],
        ]
    ]
    assert {response.status for response in found} == {200}
    return found


CASES = [
    (moves.move_group, "team", "build", "team/app/web", "build/app/web", "group team has moved to build"),
    (moves.move_project, "team/app", "team/sub/app", "team/app/web", "team/sub/app/web", "project team/app has moved"),
    (moves.move_repository, "team/app/web", "team/lib/x", "team/app/web", "team/lib/x", "repository team/app/web has"),
    (moves.move_repository, "team/app/web", "team/app/x", "team/app/web", "team/app/x", "repository team/app/web has"),
]


@pytest.mark.parametrize(("by", "old", "new", "name", "present", "said"), CASES)
@pytest.mark.parametrize("known", [True, False], ids=["remembered", "unread"])
async def test_an_image_is_pulled_by_both_names_and_pushed_by_the_new_one(
    surface: PushSurface, by: Move, old: str, new: str, name: str, present: str, said: str, known: bool
) -> None:
    digest = await surface.push_image(name, "v1", "v2")
    if known:
        await pulled(surface, name, digest)
    moved = await move(surface, by, old, new)
    assert moved.until is not None
    for _ in range(2):
        for response in await pulled(surface, name, digest):
            assert response.headers["warning"].startswith(f'299 - "{said}')
            assert f": use {present}, since the old name ends at {moved.until:%Y-%m-%d}" in response.headers["warning"]
        assert all("warning" not in response.headers for response in await pulled(surface, present, digest))
    assert (await surface.call("GET", f"{name}/manifests/none", who="reporter")).status == 404
    for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/v3"), ("DELETE", "manifests/v2")):
        refused = await surface.call(method, f"{name}/{path}", who="maintainer")
        assert (refused.status, refused.error["code"]) == (403, "DENIED")
        assert f"{said}" in str(refused.error) and f"use {present}," in str(refused.error)
    denied = await surface.call("POST", f"{name}/blobs/uploads/", who="reporter")
    assert (denied.status, "developers and above may push" in str(denied.error)) == (403, True)
    await surface.push_image(present, "v3", text="three")
    assert (await surface.call("DELETE", f"{present}/manifests/v2")).status == 202


@pytest.mark.parametrize(("by", "old", "new", "name", "present", "said"), CASES)
async def test_an_upload_goes_on_across_a_move(
    surface: PushSurface, by: Move, old: str, new: str, name: str, present: str, said: str
) -> None:
    content = b"begun before the move"
    upload = await surface.begin(name)
    assert (await surface.call("PATCH", upload, content[:5])).status == 202
    await move(surface, by, old, new)
    for who in ("reporter", "stranger"):
        assert (await surface.call("PATCH", upload, content[5:], who=who)).status in (403, 404)
    assert (await surface.call("GET", upload)).headers["range"] == "0-4"
    appended = await surface.call("PATCH", upload, content[5:8], headers=[("Content-Range", "5-7")])
    assert (appended.status, appended.headers["location"]) == (202, f"/v2/{upload}")
    listed = surface.person("maintainer", {name: "pull,push"})
    ended = await surface.call("PUT", f"{upload}?digest={quote(digest_of(content))}", content[8:], who=listed)
    assert ended.status == 201
    for at in (name, present):
        assert (await surface.call("GET", f"{at}/blobs/{digest_of(content)}")).body == content


@pytest.mark.parametrize(("by", "old", "new", "name", "present", "said"), CASES)
async def test_a_blob_is_mounted_from_an_old_name(
    surface: PushSurface, by: Move, old: str, new: str, name: str, present: str, said: str
) -> None:
    digest = await surface.push_blob(name, b"mounted")
    await move(surface, by, old, new)
    for target in (present, "closed/secret/x"):
        mounted = await surface.call("POST", f"{target}/blobs/uploads/?mount={quote(digest)}&from={name}", who="root")
        assert mounted.status == 201


@pytest.mark.parametrize(("by", "old", "new", "name", "present", "said"), CASES)
async def test_an_old_name_ends_at_its_time(
    surface: PushSurface, by: Move, old: str, new: str, name: str, present: str, said: str
) -> None:
    digest = await surface.push_image(name, "v1")
    moved = await move(surface, by, old, new)
    await pulled(surface, name, digest)
    assert moved.until is not None
    now = surface.services.clock() + KEPT
    object.__setattr__(surface.services, "clock", lambda: now)
    for who in ("reporter", "maintainer"):
        assert (await surface.call("GET", f"{name}/manifests/v1", who=who)).status == 404
    await pulled(surface, present, digest)


async def test_a_token_lists_an_old_name_with_what_is_allowed_at_the_new_place(surface: PushSurface) -> None:
    digest = await surface.push_image("team/app/web", "v1")
    await move(surface, moves.move_project, "team/app", "open/app")
    listed = surface.person("root", {"team/app/web": "pull"})
    assert (await surface.call("GET", "team/app/web/manifests/v1", who=listed)).status == 200
    other = surface.person("root", {"open/app/web": "pull"})
    assert (await surface.call("GET", "team/app/web/manifests/v1", who=other)).status == 401
    await surface.push_image("team/lib/web", "v1")
    await move(surface, moves.move_repository, "team/lib/web", "open/shown/web")
    listed = surface.person("reporter", {"team/lib/web": "pull"})
    assert (await surface.call("HEAD", f"team/lib/web/manifests/{digest}", who=listed)).status == 200


async def test_rights_are_those_of_the_new_place_and_what_is_hidden_there_was_never_here(surface: PushSurface) -> None:
    await surface.push_image("team/app/web", "v1")
    await surface.push_image("team/lib/web", "v1")
    await move(surface, moves.move_project, "team/app", "closed/app")
    await move(surface, moves.move_repository, "team/lib/web", "closed/secret/web")
    for who in ("maintainer", "stranger", ANONYMOUS):
        for moved, absent in (("team/app/web", "team/apq/web"), ("team/lib/web", "team/lib/weq")):
            for method, path in (("GET", "manifests/v1"), ("GET", "tags/list"), ("HEAD", "manifests/v1")):
                found, never = [await surface.call(method, f"{name}/{path}", who=who) for name in (moved, absent)]
                assert found.status == never.status in (401, 404)
                told = [text.decode().replace(absent, moved) for text in (found.body, never.body)]
                assert told[0] == told[1].replace(absent.rpartition("/")[0], moved.rpartition("/")[0])
    refused = await surface.call("POST", "team/lib/web/blobs/uploads/")
    assert (refused.status, "closed" in str(refused.error)) == (403, False)
    assert "stays reserved" in str(refused.error)
    for name in ("team/app/web", "team/lib/web"):
        assert (await surface.call("GET", f"{name}/manifests/v1", who="root")).status in (200, 404)
    assert (await surface.call("GET", "team/app/web/manifests/v1", who="root")).status == 200
    assert (await surface.call("GET", "team/lib/web/manifests/v1", who="root")).status == 200


async def test_a_repository_that_left_a_hidden_project_is_told_of_by_its_old_name_to_those_who_know_that(
    surface: PushSurface,
) -> None:
    """Its project is still there, and nobody else learns that it is."""
    digest = await surface.push_image("team/lib/web", "v1")
    await move(surface, moves.move_repository, "team/lib/web", "closed/secret/web")
    await move(surface, moves.move_repository, "closed/secret/web", "open/shown/web")
    for who in ("stranger", ANONYMOUS):
        assert (await surface.call("GET", f"open/shown/web/manifests/{digest}", who=who)).status == 200
        assert (await surface.call("GET", f"closed/secret/web/manifests/{digest}", who=who)).status in (401, 404)
    assert (await surface.call("GET", f"closed/secret/web/manifests/{digest}", who="root")).status == 200


async def test_a_project_is_not_created_by_a_push_where_something_was(surface: PushSurface) -> None:
    await surface.push_image("team/app/web", "v1")
    await move(surface, moves.move_project, "team/app", "closed/app")
    await move(surface, moves.move_group, "team/sub", "closed/sub")
    for name in ("team/app/web", "team/sub/web"):
        refused = await surface.call("POST", f"{name}/blobs/uploads/", who="maintainer", create_on_push=True)
        assert (refused.status, "closed" in str(refused.error)) == (404, False)
    allowed = await surface.call("POST", "team/new/web/blobs/uploads/", who="maintainer", create_on_push=True)
    assert allowed.status == 202


async def test_a_repository_is_found_by_its_old_name_after_its_project_was_deleted(surface: PushSurface) -> None:
    digest = await surface.push_image("team/lib/web", "v1")
    await move(surface, moves.move_repository, "team/lib/web", "team/app/web")
    await move(surface, moves.move_project, "team/lib", "team/sub/lib")
    await pulled(surface, "team/lib/web", digest)
    await move(surface, moves.move_group, "team", "build")
    for _ in range(2):
        await pulled(surface, "team/lib/web", digest)
        await pulled(surface, "team/app/web", digest)


async def test_moving_back_ends_the_old_name(surface: PushSurface) -> None:
    digest = await surface.push_image("team/app/web", "v1")
    await move(surface, moves.move_project, "team/app", "team/next")
    await pulled(surface, "team/app/web", digest)
    await move(surface, moves.move_project, "team/next", "team/app")
    assert all("warning" not in found.headers for found in await pulled(surface, "team/app/web", digest))
    assert all("warning" in found.headers for found in await pulled(surface, "team/next/web", digest))


async def test_what_is_swept_leads_nowhere(surface: PushSurface) -> None:
    await surface.push_image("team/app/web", "v1")
    await move(surface, moves.move_project, "team/app", "team/next", timedelta(0))
    assert (await surface.call("GET", "team/app/web/manifests/v1")).status == 404
    await move(surface, moves.move_project, "team/next", "team/last")
    async with Database.open(surface.services.folder.data / DATABASE_FILE) as database, database.write() as connection:
        assert await old_paths.sweep(connection, datetime.now(UTC) + KEPT) == 1
    assert (await surface.call("GET", "team/next/web/manifests/v1")).status == 404


@pytest.mark.parametrize(
    ("by", "old", "new", "error", "said"),
    [
        (moves.move_project, "team/app", "team/sub/app", NameUnknown, "has just moved to 'team/sub/app': push there"),
        (moves.move_repository, "team/app/web", "team/app/x", Denied, "is the old name of a repository that has moved"),
    ],
)
async def test_what_was_opened_before_a_move_makes_nothing_at_the_old_name(
    surface: PushSurface, by: Move, old: str, new: str, error: type[RegistryError], said: str
) -> None:
    digest = await surface.push_image("team/app/web", "v1")
    opener = RepositoryOpener(surface.services, RegistryOptions(open_proxy=True))
    name, who = RepositoryName("team/app/web"), surface.person("maintainer")
    repository = (await opener.open_native(name, who, Action.PUSH, None)).repository
    raw = (await surface.call("GET", f"team/app/web/manifests/{digest}")).body
    await move(surface, by, old, new)
    with pytest.raises(error) as raised:
        await repository.put_manifest(Manifest.parse(OCI_MANIFEST, raw), (Tag("v2"),))
    assert said in f"{raised.value} {raised.value.detail}"
    assert b'"tags":["v1"]' in (await surface.call("GET", "team/app/web/tags/list")).body


async def test_no_confirmed_push_is_lost_while_its_project_moves_to_and_fro(surface: PushSurface) -> None:
    names = ["team/app/web", "team/sub/app/web"]
    confirmed: dict[str, bytes] = {}
    refused: set[tuple[int, str]] = set()
    progress = asyncio.Event()

    async def push(number: int) -> None:
        for turn in range(PUSHES):
            tag, content = f"v{number}-{turn}", f"{number} {turn}".encode()
            raw = image(digest_of(content))
            for name in itertools.islice(itertools.cycle(names), ATTEMPTS):
                blob = f"{name}/blobs/uploads/?digest={quote(digest_of(content))}"
                answers = [await surface.call("POST", blob, content)]
                if answers[0].status == 201:
                    answers.append(await surface.put_manifest(name, tag, raw))
                refused.update({(each.status, each.error["code"]) for each in answers if each.status != 201})
                if len(answers) == 2 and answers[1].status == 201:
                    confirmed[tag] = raw
                    progress.set()
                    break

    async def move_to_and_fro() -> None:
        for old, new in itertools.cycle(itertools.permutations(["team/app", "team/sub/app"])):
            await progress.wait()
            progress.clear()
            await move(surface, moves.move_project, old, new)

    moving = asyncio.create_task(move_to_and_fro())
    try:
        await asyncio.gather(*(push(number) for number in range(PUSHERS)))
    finally:
        moving.cancel()
        with suppress(asyncio.CancelledError):
            await moving
    assert len(confirmed) == PUSHERS * PUSHES
    assert refused <= {(403, "DENIED"), (404, "NAME_UNKNOWN"), (404, "MANIFEST_BLOB_UNKNOWN")} and refused
    for name in names:
        for tag, raw in confirmed.items():
            found = await surface.call("GET", f"{name}/manifests/{tag}")
            assert (found.status, found.body) == (200, raw), (name, tag)
