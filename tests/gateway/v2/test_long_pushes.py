"""Pushes whose bodies are open while the right to push is lost: nothing of them is stored, and no tag moves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import pytest
import pytest_asyncio
from starlette.types import Message

from cache.oci.media_types import OCI_MANIFEST
from gateway.db import members
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.v2 import long_pushes, pushed_documents
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.gateway.v2.pushing import ROOTS, PushSurface, image, open_surface
from tests.parts.images import digest_of

NAME = "team/app/image"
Loss = Callable[[PushSurface], Awaitable[None]]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("long") / "data") as surface:
        yield surface


class Interrupted(Client):
    """Client that does something before it sends the last part of its body."""

    between: Callable[[], Awaitable[None]]

    async def _receive(self) -> Message:
        if len(self.unread) == 1:
            await self.between()
        return await super()._receive()


async def send(surface: PushSurface, method: str, path: str, body: bytes, loss: Loss) -> Exchange:
    """Send a request as the developer, who loses the right to it before the last byte."""
    surface.presented.principal = surface.person("developer")
    headers = [("Content-Type", OCI_MANIFEST), ("Content-Length", str(len(body)))]
    client = Interrupted(scope_of(method, f"/v2/{path}", headers), [body[:-1], body[-1:]])

    async def between() -> None:
        await loss(surface)

    client.between = between
    return await client.request(create_app(surface.services, ROOTS, RegistryOptions(open_proxy=True)))


async def end_credential(surface: PushSurface) -> None:
    surface.presented.has_ended = True


async def remove_member(surface: PushSurface) -> None:
    group = await surface.services.directory.find_group("team")
    assert group is not None
    async with surface.services.directory._database.write() as connection:
        await members.remove(connection, NodeKey(NodeKind.GROUP, group.id), surface.people["developer"].id)


LOSSES = pytest.mark.parametrize(("loss", "status"), [(end_credential, 401), (remove_member, 404)])


@LOSSES
async def test_a_manifest_moves_no_tag_once_the_right_is_lost(surface: PushSurface, loss: Loss, status: int) -> None:
    before = await surface.push_image(NAME, "prod", text="before")
    raw = image(await surface.push_blob(NAME, b"config of before"), annotations={"new": "one"})
    refused = await send(surface, "PUT", f"{NAME}/manifests/prod", raw, loss)
    assert refused.status == status
    found = await surface.call("HEAD", f"{NAME}/manifests/prod")
    assert found.headers["docker-content-digest"] == before
    assert (await surface.call("HEAD", f"{NAME}/manifests/{digest_of(raw)}")).status == 404


@LOSSES
async def test_no_blob_is_stored_once_the_right_is_lost(surface: PushSurface, loss: Loss, status: int) -> None:
    blob = b"a layer of somebody who left"
    begun = await surface.begin(NAME, who="developer")
    query = f"?digest={quote(digest_of(blob))}"
    refused = await send(surface, "PUT", begun + query, blob, loss)
    assert refused.status == status
    assert (await surface.call("HEAD", f"{NAME}/blobs/{digest_of(blob)}")).status == 404


@LOSSES
async def test_no_blob_of_one_request_is_stored_once_the_right_is_lost(
    surface: PushSurface, loss: Loss, status: int
) -> None:
    blob = b"a layer in one request"
    refused = await send(surface, "POST", f"{NAME}/blobs/uploads/?digest={quote(digest_of(blob))}", blob, loss)
    assert refused.status == status
    assert (await surface.call("HEAD", f"{NAME}/blobs/{digest_of(blob)}")).status == 404


async def test_a_long_stream_ends_while_it_arrives(surface: PushSurface, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = await surface.begin(NAME, who="developer")
    monkeypatch.setattr(long_pushes, "DECIDED_EVERY", 0)
    refused = await send(surface, "PATCH", begun, b"a stream without end", end_credential)
    assert refused.status == 401
    surface.presented.has_ended = False
    shown = await surface.call("GET", begun, who="developer")
    assert shown.headers["range"] == f"0-{len(b'a stream without end') - 2}"


async def test_a_manifest_has_a_limited_time_to_arrive(surface: PushSurface, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushed_documents, "BODY_SECONDS", 0)
    surface.presented.principal = surface.person("developer")
    scope = scope_of("PUT", f"/v2/{NAME}/manifests/slow", [("Content-Type", OCI_MANIFEST), ("Content-Length", "9")])
    client = Client(scope, [b"{"], ends=False)
    refused = await client.request(create_app(surface.services, ROOTS, RegistryOptions(open_proxy=True)))
    assert (refused.status, refused.error["code"]) == (400, "MANIFEST_INVALID")
    assert "did not arrive within" in str(refused.error["message"])
