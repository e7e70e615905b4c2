"""Virtual registries by the REST API, and pulls from them: who may, what is shown, and what never is."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.event import EventKind, Subject
from gateway.auth.principal import ANONYMOUS
from gateway.maintenance.virtual_caches import EntryName
from tests.conftest import Publish
from tests.gateway.api.rest import Rest, open_rest
from tests.parts.registry import Registry

BASE = "/virtual_registries/container"
OF_TEAM = f"/groups/team/-{BASE}"
SECRET = "a-secret-that-nobody-sees"


@pytest.fixture
async def rest(tmp_path: Path, registry: Registry) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data", virtual_registries={"private_hosts": [registry.netloc]}) as rest:
        yield rest


async def sent(rest: Rest, method: str, path: str, status: int, who: str = "maintainer", /, **document: Any) -> Any:
    answer = await rest.send_json(method, path, document, who=who)
    assert answer.status == status, (answer.status, answer.body)
    assert SECRET.encode() not in answer.body
    return json.loads(answer.body) if answer.body else None


async def make(rest: Rest, name: str = "all") -> str:
    """A new virtual registry; return its path."""
    return f"{BASE}/registries/{(await sent(rest, 'POST', f'{OF_TEAM}/registries', 201, name=name))['id']}"


async def add(rest: Rest, registry: str, url: str = "https://registry.example", **more: Any) -> Any:
    return await sent(rest, "POST", f"{registry}/upstreams", 201, url=url, name="up", **more)


async def test_registries_are_made_shown_changed_and_deleted(rest: Rest) -> None:
    one = await make(rest)
    assert [each["name"] for each in await rest.get(f"{OF_TEAM}/registries", who="reporter")] == ["all"]
    upstream = await add(rest, one, description="x")
    share = upstream["registry_upstream"]
    shown = await rest.get(one)
    assert shown["registry_upstreams"] == [{"id": share["id"], "position": 1, "upstream_id": upstream["id"]}]
    changed = await sent(rest, "PATCH", one, 200, description="for all")
    assert (changed["name"], changed["description"]) == ("all", "for all")
    await sent(rest, "PATCH", one, 400)
    await sent(rest, "DELETE", one, 204)
    await rest.get(one, 404)
    assert (await rest.get(f"{BASE}/upstreams/{upstream['id']}"))["description"] == "x", "it stays"
    kinds = [(event.subject, event.event) for kind in EventKind for event in rest.noted(kind)]
    assert kinds.count((Subject.VIRTUAL_REGISTRY, EventKind.CREATE)) == 1
    assert kinds.count((Subject.VIRTUAL_REGISTRY, EventKind.DELETE)) == 1
    assert kinds.count((Subject.VIRTUAL_UPSTREAM, EventKind.CREATE)) == 1


async def test_a_password_is_stored_sealed_and_never_shown(rest: Rest) -> None:
    one = await make(rest)
    made = await add(rest, one, username="robot", password=SECRET)
    path = f"{BASE}/upstreams/{made['id']}"
    assert made["username"] == "robot" and "password" not in made
    listed = [*(await rest.get(f"{OF_TEAM}/upstreams")), *(await rest.get(f"{one}/upstreams"))]
    for shown in (await rest.get(path), *listed):
        assert not {"password", "password_sealed", "cache_key"} & set(shown)
    await sent(rest, "PATCH", path, 200, name="other")
    refused = await sent(rest, "PATCH", path, 400, url="https://elsewhere.example")
    assert "password" in refused["message"]
    await sent(rest, "PATCH", path, 400, username="robot")
    await sent(rest, "PATCH", path, 400, username="robot", password="")
    moved = await sent(rest, "PATCH", path, 200, url="https://elsewhere.example", username="robot", password=SECRET)
    assert moved["url"] == "https://elsewhere.example"
    assert (await sent(rest, "PATCH", path, 200, username="", password=""))["username"] is None
    rest.services.audit.flush()
    for file in rest.services.folder.data.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


async def test_upstreams_are_ordered_and_shared(rest: Rest) -> None:
    one, other = await make(rest), await make(rest, "other")
    first, second = await add(rest, one), await add(rest, one)
    shares = f"{BASE}/registry_upstreams"
    moved = await sent(rest, "PATCH", f"{shares}/{second['registry_upstream']['id']}", 200, position=1)
    assert moved["position"] == 1
    assert [each["id"] for each in await rest.get(f"{one}/upstreams")] == [second["id"], first["id"]]
    number = int(other.rpartition("/")[2])
    await sent(rest, "POST", shares, 201, registry_id=number, upstream_id=first["id"])
    await sent(rest, "POST", shares, 400, registry_id=number, upstream_id=first["id"])
    await sent(rest, "POST", shares, 404, registry_id=number, upstream_id=999)
    await sent(rest, "DELETE", f"{shares}/{first['registry_upstream']['id']}", 204)
    assert [each["id"] for each in await rest.get(f"{one}/upstreams")] == [second["id"]]
    assert [each["id"] for each in await rest.get(f"{other}/upstreams")] == [first["id"]]
    for position in (0, 21, "x"):
        await sent(rest, "PATCH", f"{shares}/{second['registry_upstream']['id']}", 400, position=position)
    for _ in range(4):
        await add(rest, one)
    refused = await sent(rest, "POST", f"{one}/upstreams", 400, url="https://a.example", name="n")
    assert "at most 5" in json.dumps(refused)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"name": "n"}, "url is missing"),
        ({"url": "https://a.example"}, "name is missing"),
        ({"url": "http://a.example", "name": "n"}, "must begin with https"),
        ({"url": "https://u:p@a.example", "name": "n"}, "no login"),
        ({"url": "file:///etc/passwd", "name": "n"}, "must be an https URL"),
        ({"url": "https://a.example", "name": "n", "username": "u"}, "given together"),
        ({"url": "https://a.example", "name": "n", "password": "p"}, "given together"),
        ({"url": "https://a.example", "name": "n", "cache_validity_hours": -1}, "cache_validity_hours"),
        ({"url": "https://a.example", "name": "n", "cache_validity_hours": 10**9}, "cache_validity_hours"),
        ({"url": "https://a.example", "name": "n\0"}, "name is invalid"),
        ({"url": "https://a.example", "name": ""}, "name is invalid"),
    ],
)
async def test_an_upstream_that_cannot_be_is_refused(rest: Rest, document: dict[str, Any], named: str) -> None:
    refused = await sent(rest, "POST", f"{await make(rest)}/upstreams", 400, **document)
    assert named in json.dumps(refused)


async def test_who_may_see_and_change(rest: Rest) -> None:
    one = await make(rest)
    upstream = f"{BASE}/upstreams/{(await add(rest, one))['id']}"
    for who, status in (("root", 200), ("reporter", 200), ("newcomer", 404), ("stranger", 404)):
        for path in (one, upstream, f"{one}/upstreams", f"{upstream}/cache_entries"):
            await rest.get(path, status, who=who)
    await rest.get(f"{OF_TEAM}/registries", 404, who="stranger")
    await rest.get(one, 401, who=None)
    for who in ("reporter", "developer"):
        for method, path in (("PATCH", one), ("DELETE", one), ("DELETE", f"{one}/cache"), ("DELETE", upstream)):
            assert (await rest.send_json(method, path, {"name": "x"}, who=who)).status == 403
        await sent(rest, "POST", f"{OF_TEAM}/registries", 403, who, name="mine")
    await sent(rest, "POST", f"/groups/team%2Fsub/-{BASE}/registries", 400, name="below")
    await sent(rest, "POST", f"/groups/open/-{BASE}/registries", 403, "stranger", name="x")


# Pulls


async def pull(rest: Rest, name: str, who: Any = "reporter") -> int:
    return (await rest.surface.call("GET", name, who=who)).status


@pytest.fixture
async def filled(rest: Rest, registry: Registry, published: Publish) -> tuple[str, int, Any]:
    """A virtual registry whose upstream is a real one with the image `library/tiny`."""
    tiny = published("tiny")
    one = await make(rest)
    upstream = await add(rest, one, registry.url)
    return f"virtual_registries/container/{one.rpartition('/')[2]}/library/tiny", upstream["id"], tiny


async def test_an_image_is_pulled_and_listed_and_its_entries_are_deleted(
    rest: Rest, filled: tuple[str, int, Any]
) -> None:
    name, id, tiny = filled
    assert await pull(rest, f"{name}/manifests/latest") == 200
    assert await pull(rest, f"{name}/blobs/{tiny.manifest['config']['digest']}") == 200
    assert await pull(rest, f"{name}/manifests/absent") == 404
    listed = await rest.surface.call("GET", f"{name}/tags/list", who="reporter")
    assert json.loads(listed.body) == {"name": name, "tags": ["latest"]}
    entries = await rest.get(f"{BASE}/upstreams/{id}/cache_entries")
    found = {entry["relative_path"]: entry for entry in entries}
    tag = found["library/tiny/manifests/latest"]
    assert tag["upstream_etag"] == tiny.digest and tag["upstream_checked_at"] and tag["upstream_id"] == id
    assert EntryName.parse(tag["id"]) == EntryName(id, "library/tiny/manifests/latest")
    some = await rest.get(f"{BASE}/upstreams/{id}/cache_entries", search="manifests/latest")
    assert [entry["id"] for entry in some] == [tag["id"]]
    assert (await rest.call("DELETE", f"{BASE}/cache_entries/{tag['id']}", who="developer")).status == 403
    assert (await rest.call("DELETE", f"{BASE}/cache_entries/{tag['id']}")).status == 204
    assert (await rest.call("DELETE", f"{BASE}/cache_entries/{tag['id']}")).status == 404
    for wrong in ("x", "MSB4", EntryName(id, "library/tiny/manifests/-").id, EntryName(999, "a/manifests/b").id):
        assert (await rest.call("DELETE", f"{BASE}/cache_entries/{wrong}")).status == 404
    paths = [entry["relative_path"] for entry in await rest.get(f"{BASE}/upstreams/{id}/cache_entries")]
    assert "library/tiny/manifests/latest" not in paths


async def test_a_purged_cache_serves_nothing_while_the_upstream_is_down(
    rest: Rest, filled: tuple[str, int, Any], registry: Registry
) -> None:
    name, id, _ = filled
    assert await pull(rest, f"{name}/manifests/latest") == 200
    registry.stop()
    try:
        assert await pull(rest, f"{name}/manifests/latest") == 200
        assert (await rest.call("DELETE", f"{BASE}/upstreams/{id}/cache")).status == 204
        assert await rest.get(f"{BASE}/upstreams/{id}/cache_entries") == []
        assert await pull(rest, f"{name}/manifests/latest") == 503
    finally:
        registry.start()


async def test_a_renewed_key_is_an_empty_cache_whatever_files_are_left(
    rest: Rest, filled: tuple[str, int, Any], registry: Registry
) -> None:
    name, id, _ = filled
    assert await pull(rest, f"{name}/manifests/latest") == 200
    upstream = await rest.services.virtual.find_upstream(id)
    assert upstream is not None
    registry.stop()
    try:
        await rest.services.virtual.empty_cache(upstream)
        assert await pull(rest, f"{name}/manifests/latest") == 503
    finally:
        registry.start()


async def test_only_members_pull_and_nothing_is_pushed(rest: Rest, filled: tuple[str, int, Any]) -> None:
    name, *_ = filled
    for who, status in (("root", 200), ("reporter", 200), ("stranger", 404), ("newcomer", 404), (ANONYMOUS, 401)):
        assert await pull(rest, f"{name}/manifests/latest", who) == status, who
    assert (await rest.surface.call("POST", f"{name}/blobs/uploads/")).status == 405
    assert (await rest.surface.call("DELETE", f"{name}/manifests/latest")).status == 405
    for absent in ("virtual_registries/container/999/library/tiny", "virtual_registries/x/1/library/tiny"):
        assert await pull(rest, f"{absent}/manifests/latest") == 404
    assert await pull(rest, f"{name}/manifests/latest", rest.surface.person("reporter", {name: "pull"})) == 200
    assert await pull(rest, f"{name}/manifests/latest", rest.surface.person("reporter", {f"{name}x": "pull"})) == 401


async def test_a_private_address_is_not_reached(rest: Rest) -> None:
    """Unless the settings name its host: here they name another port of it."""
    one = await make(rest)
    for url in ("https://127.0.0.1:1", "https://localhost:1", "https://169.254.169.254", "https://[::1]:1"):
        await add(rest, one, url)
        [upstream] = await rest.get(f"{one}/upstreams")
        name = f"virtual_registries/container/{one.rpartition('/')[2]}/library/tiny"
        answer = await rest.surface.call("GET", f"{name}/manifests/latest", who="reporter")
        assert answer.status == 503 and b"no address on the public internet" in answer.body, (url, answer.body)
        assert (await rest.call("DELETE", f"{BASE}/upstreams/{upstream['id']}")).status == 204


async def test_what_a_name_leads_to_within_the_network_is_not_told(rest: Rest) -> None:
    """Neither its address nor whether it has one: here one name leads to loopback, and the other one nowhere."""
    one, said = await make(rest), []
    for host in ("localhost", "nowhere.invalid"):
        upstream = await add(rest, one, f"https://{host}")
        name = f"virtual_registries/container/{one.rpartition('/')[2]}/library/tiny"
        answer = await rest.surface.call("GET", f"{name}/manifests/latest", who="reporter")
        said.append((answer.status, answer.body.replace(host.encode(), b"HOST")))
        await sent(rest, "DELETE", f"{BASE}/upstreams/{upstream['id']}", 204)
    assert said[0] == said[1] and said[0][0] == 503


async def test_a_url_that_nothing_can_be_requested_of_is_refused(rest: Rest) -> None:
    one = await make(rest)
    for url in ("https://-a/", "https://1.2.3.999/", "https://a.example:0/", "https://a.example:99999/"):
        refused = await sent(rest, "POST", f"{one}/upstreams", 400, url=url, name="up", username="a", password=SECRET)
        assert list(refused["message"]) == ["url"], url
