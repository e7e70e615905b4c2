"""What requests leave in the audit log, and what they do not."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.file import AuditQuery, read_events
from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind
from gateway.data_folder import audit_file
from gateway.namespaces.credentials import DeployToken, Scope
from tests.gateway.v2.pushing import NOW, PushSurface, image, open_surface
from tests.parts.canaries import CANARY, found_below
from tests.parts.images import digest_of

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


async def test_a_push_is_noted_for_each_tag_with_what_that_pointed_to_before(surface: PushSurface) -> None:
    name = "team/app/pushed"
    first = await surface.push_image(name, "v1", text="first")
    config, layer = await surface.push_blob(name, b"config"), await surface.push_blob(name, b"layer")
    noted = Noted(surface)
    raw = image(config, layer)
    second = digest_of(raw)
    assert (await surface.put_manifest(name, "v1?tag=v2&tag=v1", raw, who="developer")).status == 201
    assert (await surface.put_manifest(name, second, raw, who="developer")).status == 201
    assert (await surface.put_manifest(name, "v1", raw, who="reporter")).status == 403
    moved, made, untagged = noted.new()
    assert moved == AuditEvent(
        at=moved.at,
        event=EventKind.PUSH,
        subject=Subject.MANIFEST,
        surface=Surface.REGISTRY,
        path=name,
        tag="v1",
        digest=second,
        former=first,
        who="user 'developer'",
        user="developer",
        client="127.0.0.1",
        request_id=moved.request_id,
    )
    assert made == moved._replace(tag="v2", former=None)
    assert (untagged.tag, untagged.digest, untagged.former) == (None, second, None)


async def test_each_deletion_is_noted_and_logged_once(surface: PushSurface) -> None:
    name = "team/app/deleted"
    digest = await surface.push_image(name, "v1", "v2", text="doomed")
    blob = await surface.push_blob(name, b"needed by nothing")
    noted, chosen = Noted(surface), [("X-Request-Id", "two")]
    with capture_logs() as lines:
        for target in ("tags/reference/v1", "manifests/v2", f"manifests/{digest}", f"blobs/{blob}"):
            assert (await surface.call("DELETE", f"{name}/{target}", headers=chosen)).status == 202
        assert (await surface.call("DELETE", f"{name}/manifests/v1")).status == 404
        assert (await surface.call("DELETE", f"{name}/manifests/v1", who="reporter")).status == 403
    events = noted.new()
    assert [(event.subject, event.tag, event.digest) for event in events] == [
        (Subject.TAG, "v1", digest),
        (Subject.TAG, "v2", digest),
        (Subject.MANIFEST, None, digest),
        (Subject.BLOB, None, blob),
    ]
    assert {(event.event, event.path, event.user, event.request_id) for event in events} == {
        (EventKind.DELETE, name, "maintainer", "two")
    }
    facts = {"who": "user 'maintainer'", "surface": "registry", "status": 202, "request_id": "two"}
    assert [line for line in lines if line["event"] == "deleted"] == [
        {"event": "deleted", "log_level": "info", "repository": name, "tag": tag, "digest": deleted, **facts}
        for tag, deleted in (("v1", digest), ("v2", digest), (None, digest), (None, blob))
    ]


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


async def test_the_audit_log_has_no_credential_and_no_query(surface: PushSurface) -> None:
    await surface.push_image(NAME, "v1")
    headers = [("Authorization", f"Bearer {CANARY}"), ("X-Request-Id", f"{CANARY} x"), ("User-Agent", CANARY)]
    noted = Noted(surface)
    for method in ("GET", "DELETE"):
        await surface.call(method, f"{NAME}/manifests/v1?signature={CANARY}", headers=headers)
    assert [event.event for event in noted.new()] == [EventKind.PULL, EventKind.DELETE]
    data = surface.services.folder.data
    assert found_below(data) == {} and CANARY.encode() not in audit_file(data).read_bytes()
