"""What requests leave in the audit log, and what they do not."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.file import AuditQuery, read_events
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind
from gateway.data_folder import audit_file
from gateway.namespaces.credentials import DeployToken, Scope
from tests.gateway.v2.pushing import NOW, PushSurface, open_surface

NAME = "team/app/image"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PushSurface]:
    async with open_surface(tmp_path_factory.mktemp("audited") / "data") as surface:
        yield surface


class Noted:
    """The events that were noted since the last look."""

    def __init__(self, surface: PushSurface) -> None:
        self._surface = surface
        self._seen = 0
        self.new()

    def new(self) -> list[AuditEvent]:
        self._surface.services.audit.flush()
        path = audit_file(self._surface.services.folder.data)
        events = [written.event for written in read_events(path, AuditQuery(), None, 10_000)]
        new, self._seen = events[self._seen :], len(events)
        return new


async def test_a_pull_is_noted_with_who_what_and_from_where(surface: PushSurface) -> None:
    digest = await surface.push_image(NAME, "v1")
    noted = Noted(surface)
    await surface.call("GET", f"{NAME}/manifests/v1", who="reporter", headers=[("X-Request-Id", "one")])
    await surface.call("GET", f"{NAME}/manifests/{digest}", who="developer")
    by_tag, by_digest = noted.new()
    assert by_tag == AuditEvent(
        at=by_tag.at,
        event=EventKind.PULL,
        subject=Subject.MANIFEST,
        surface=Surface.REGISTRY,
        path=NAME,
        tag="v1",
        digest=digest,
        who="user 'reporter'",
        user="reporter",
        client="127.0.0.1",
        request_id="one",
    )
    assert (by_digest.user, by_digest.tag, by_digest.digest) == ("developer", None, digest)


async def test_what_sends_no_manifest_is_no_pull(surface: PushSurface) -> None:
    digest = await surface.push_image(NAME, "v2", text="two")
    blob = await surface.push_blob(NAME, b"a layer")
    noted = Noted(surface)
    statuses = [
        (await surface.call("HEAD", f"{NAME}/manifests/v2")).status,
        (await surface.call("GET", f"{NAME}/manifests/v2", headers=[("If-None-Match", f'"{digest}"')])).status,
        (await surface.call("GET", f"{NAME}/blobs/{blob}")).status,
        (await surface.call("GET", f"{NAME}/tags/list")).status,
        (await surface.call("GET", f"{NAME}/manifests/absent")).status,
        (await surface.call("GET", f"{NAME}/manifests/v2", who="stranger")).status,
    ]
    assert statuses == [200, 304, 200, 200, 404, 404]
    assert noted.new() == []


async def test_a_deploy_token_is_named_by_its_number_and_its_user_name(surface: PushSurface) -> None:
    await surface.push_image(NAME, "v1")
    place = await surface.services.directory.find_project_place("team/app")
    assert place is not None
    token = DeployToken(7, place.project.key, "a name", "ci-user", frozenset(Scope), NOW)
    noted = Noted(surface)
    who = Principal(PrincipalKind.DEPLOY_TOKEN, "ci-user", None, token, token.ref)
    await surface.call("GET", f"{NAME}/manifests/v1", who=who)
    assert [(event.who, event.user) for event in noted.new()] == [("deploy token 7 (ci-user)", "ci-user")]


async def test_a_client_without_a_login_is_anonymous(surface: PushSurface) -> None:
    await surface.cache_manifest("library/alpine", "3.20")
    noted = Noted(surface)
    for name in ("hub/dependency_proxy/containers/alpine", "hub/dependency_proxy/containers/docker.io/library/alpine"):
        assert (await surface.call("GET", f"{name}/manifests/3.20", who=ANONYMOUS)).status == 200
    assert {(event.who, event.user, event.path, event.outcome) for event in noted.new()} == {
        ("an anonymous client", None, "hub/dependency_proxy/containers/library/alpine", "HIT")
    }
