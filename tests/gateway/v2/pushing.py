"""The registry's surface over real stores, with people who push to projects, pull from them and delete."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cache.oci.digest import Digest
from cache.oci.errors import Unauthorized
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_MANIFEST
from cache.oci.names import RepositoryName, Tag
from cache.store.filesystem import FilesystemStore
from cache.values import BlobInfo, Link, TagPointer
from gateway.auth.authenticator import Authenticator
from gateway.auth.principal import ANONYMOUS, AccessList, Principal, PrincipalKind
from gateway.cli import folder
from gateway.data_folder import CacheFolder
from gateway.db import groups, members, projects, users
from gateway.namespaces.credentials import CredentialKind, CredentialRef
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.role import Role
from gateway.namespaces.user import User
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.v2.opener import RegistryOptions
from gateway.v2.root_selection import root_table
from gateway.wiring.app import create_app
from gateway.wiring.lifespan import open_services
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.parts.images import digest_of

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
LATER = datetime(2999, 1, 1, tzinfo=UTC)
URL = "http://127.0.0.1:8080"
ROOTS = root_table(URL, {"docker.io": "https://registry-1.docker.io"}, "hub", {})
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

Headers = Sequence[tuple[str, str]]


class Presented:
    """Authenticator that takes the principal which a test presents, until its credential ends."""

    principal = ANONYMOUS
    has_ended = False

    async def authenticate(self, scope: Mapping[str, Any]) -> Principal:
        return self.principal

    async def renewed(self, principal: Principal) -> Principal:
        if self.has_ended:
            raise Unauthorized("the token was revoked")
        return replace(principal, limits=None)


@dataclass(frozen=True)
class PushSurface:
    """The app over real stores. In the private group `team` lie the projects `team/app` and `team/lib`, whose
    `developer`, `maintainer` and `reporter` are members of the group; `open/shown` is public, and `closed/secret` is
    of nobody but `root`. `newcomer` is a developer of the group `closed/new`. `authenticator`: the
    real one."""

    services: Services
    presented: Presented
    people: dict[str, User]
    authenticator: Authenticator

    def person(self, name: str, listed: Mapping[str, str] | None = None) -> Principal:
        """A person by a password; `listed`: by a Bearer token that lists these actions of repositories."""
        user = self.people[name]
        ref = CredentialRef(CredentialKind.PASSWORD, user.id)
        limits = listed and AccessList({name: frozenset(actions.split(",")) for name, actions in listed.items()}, LATER)
        return Principal(PrincipalKind.USER, name, user, None, ref, limits or None)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        *,
        who: str | Principal = "maintainer",
        headers: Headers = (),
        create_on_push: bool = False,
        leaves: bool = False,
    ) -> Exchange:
        """The response to a request below /v2/. `leaves`: the client leaves after its body, whose end it never
        sends."""
        self.presented.principal = self.person(who) if isinstance(who, str) else who
        parts = [body] if isinstance(body, bytes) else list(body)
        sent = [("Transfer-Encoding", "chunked")] if len(parts) > 1 or leaves else []
        if not sent and parts != [b""]:
            sent = [("Content-Length", str(len(parts[0])))]
        client = Client(scope_of(method, f"/v2/{path}", [*sent, *headers]), parts, ends=not leaves)
        if leaves:
            client.leave()
        options = RegistryOptions(open_proxy=True, create_on_push=create_on_push)
        return await client.request(create_app(self.services, ROOTS, options))

    async def push_blob(self, name: str, content: bytes, **options: Any) -> str:
        """Push a blob with one request; return its digest."""
        digest = digest_of(content)
        made = await self.call("POST", f"{name}/blobs/uploads/?digest={quote(digest)}", content, **options)
        assert made.status == 201, made.body
        return digest

    async def begin(self, name: str, **options: Any) -> str:
        """Begin an upload; return its path below /v2/."""
        begun = await self.call("POST", f"{name}/blobs/uploads/", **options)
        assert begun.status == 202, begun.body
        location = begun.headers["location"]
        assert location.startswith(f"/v2/{name}/blobs/uploads/")
        return location.removeprefix("/v2/")

    async def push_image(self, name: str, *references: str, text: str = "one", **fields: Any) -> str:
        """Push an image of a config and a layer by tags, or by its digest alone; return the digest."""
        config = await self.push_blob(name, f"config of {text}".encode())
        layer = await self.push_blob(name, f"layer of {text}".encode())
        raw = image(config, layer, **fields)
        for reference in references or (digest_of(raw),):
            made = await self.put_manifest(name, reference, raw)
            assert made.status == 201, made.body
        return digest_of(raw)

    async def put_manifest(self, name: str, reference: str, raw: bytes, **options: Any) -> Exchange:
        options = {"headers": [("Content-Type", OCI_MANIFEST)]} | options
        return await self.call("PUT", f"{name}/manifests/{reference}", raw, **options)

    async def cache_blob(self, image: str, content: bytes) -> str:
        """Put a blob into the cache, as if it had been pulled through the group `hub`; return its digest."""
        digest, data = digest_of(content), self.services.folder.data
        arrived = data / "spool" / "arrived"
        arrived.write_bytes(content)
        FilesystemStore(CacheFolder(data).blobs).adopt(arrived, Digest.parse(digest))
        hub = await self.services.directory.find_group("hub")
        assert hub is not None
        link = Link(self.services.upstreams.source(hub, "docker.io"), RepositoryName(image), Digest.parse(digest))
        await self.services.pull_through.index.record(BlobInfo(Digest.parse(digest), len(content)), link)
        return digest

    async def cache_manifest(self, name: str, tag: str) -> str:
        """Put a manifest into the cache under a tag, as if it had been pulled a moment ago; return its digest."""
        manifest = Manifest.parse(OCI_MANIFEST, image(digest_of(b"config")))
        hub, cached = await self.services.directory.find_group("hub"), RepositoryName(name)
        assert hub is not None
        source = self.services.upstreams.source(hub, "docker.io")
        link, now = Link(source, cached, manifest.descriptor.digest), self.services.clock()
        pointer = TagPointer(source, cached, Tag(tag), manifest.descriptor, now)
        await self.services.pull_through.index.record(manifest, link, pointer)
        return str(manifest.descriptor.digest)


def image(config: str, *layers: str, **fields: Any) -> bytes:
    """An OCI image as a document; `fields` are added to it."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config, "size": 10},
        "layers": [{"mediaType": LAYER, "digest": layer, "size": 10} for layer in layers],
    }
    return json.dumps(document | fields).encode()


@asynccontextmanager
async def open_surface(data: Path, **settings: Any) -> AsyncIterator[PushSurface]:
    """Open the surface over a new data folder."""
    parsed_settings = Settings.model_validate({"data": str(data), **settings})
    people: dict[str, User] = {}
    async with folder.open_made(parsed_settings) as database, database.write() as connection:
        for name in ("root", "developer", "maintainer", "reporter", "newcomer", "stranger"):
            people[name] = await users.create(connection, name, NOW, admin=name == "root")
        for path in ("team", "team/sub", "open", "closed", "closed/new"):
            group = await groups.create(connection, path, NOW)
            if path == "open":
                await groups.update(connection, replace(group, visibility=Visibility.PUBLIC))
            for role in {"team": (Role.DEVELOPER, Role.MAINTAINER, Role.REPORTER)}.get(path, ()):
                key = NodeKey(NodeKind.GROUP, group.id)
                await members.add(connection, Member(key, people[role.word].id, role, None, NOW))
            if path == "closed/new":
                key = NodeKey(NodeKind.GROUP, group.id)
                await members.add(connection, Member(key, people["newcomer"].id, Role.DEVELOPER, None, NOW))
        for path in ("team/app", "team/lib", "closed/secret"):
            await projects.create(connection, path, NOW)
        await projects.create(connection, "open/shown", NOW, visibility=Visibility.PUBLIC)
    async with open_services(parsed_settings) as services:
        presented: Any = Presented()
        yield PushSurface(replace(services, authenticator=presented), presented, people, services.authenticator)
