"""A server of two workers whose groups lie in a PostgreSQL database, also while that cannot be reached."""

import asyncio
from collections.abc import Iterator

import pytest

from cache.oci.digest import Digest
from gateway.db.address import PostgresqlAddress
from tests.conftest import GatewayFactory, Publish
from tests.e2e.test_keeping import NAME, made_pusher
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.postgresql import PASSWORD, Databases
from tests.parts.processes import wait_until

WORKERS = 2
MANIFEST = "library/tiny/manifests/latest"


@pytest.fixture
def address(databases: Databases) -> Iterator[PostgresqlAddress]:
    address = asyncio.run(databases.server.create("of_a_server", "template0"))
    yield address
    asyncio.run(databases.server.drop(address.name))


@pytest.fixture
def server(hub: Hub, published: Publish, gateway: GatewayFactory, address: PostgresqlAddress) -> Gateway:
    published("tiny")
    database = {"url": str(address), "password_file": str(address.password_file)}
    upstreams = {"docker.io": hub.settings()}
    return gateway({"upstreams": upstreams, "workers": WORKERS, "database": database, "cache": {"ttl": "1h"}})


def statuses(server: Gateway, group: str = "hub") -> set[int]:
    """What the workers say to pulls, each on a connection of its own."""
    return {raw.get(server.proxied_url(MANIFEST, group)).status for _ in range(8 * WORKERS)}


def test_groups_live_in_the_database_and_every_worker_learns_of_them(server: Gateway) -> None:
    assert not (server.data / "gateway.db").exists()
    assert statuses(server) == {200}
    assert 200 not in statuses(server, "ci")
    server.json("group", "create", "ci", "--visibility", "public", "--anonymous-pull")
    wait_until(lambda: statuses(server, "ci") == {200})
    server.json("group", "update", "ci", "--no-anonymous-pull")
    wait_until(lambda: 200 not in statuses(server, "ci"))
    assert PASSWORD not in server.log_text()


def test_what_everybody_may_pull_is_served_while_the_database_is_away(
    server: Gateway, databases: Databases, address: PostgresqlAddress
) -> None:
    assert statuses(server) == {200}
    asyncio.run(databases.server.allow_connections(address.name, False))
    wait_until(lambda: server.log_text().count("changes_not_read") == WORKERS)
    assert statuses(server) == {200}
    assert statuses(server, "unknown") == {503}
    assert raw.get(f"{server.url}/-/ready").status == 503
    asyncio.run(databases.server.allow_connections(address.name, True))
    wait_until(lambda: raw.get(f"{server.url}/-/ready").status == 200)
    wait_until(lambda: server.log_text().count("changes_read_again") == WORKERS)
    server.json("group", "update", "hub", "--no-anonymous-pull")
    wait_until(lambda: 200 not in statuses(server))
    assert PASSWORD not in server.log_text()


def test_a_backup_holds_the_blobs_that_the_database_names(server: Gateway) -> None:
    pusher = made_pusher(server)
    manifest = pusher.push_image(b"{}", b"a layer", "v1")
    file = server.directory / "backup.tar"
    made = server.json("backup", str(file))
    assert (made["database"], made["blobs"], made["left_out"]) == ("postgresql", 2, [])
    assert "pg_dump" in made["pg_dump"]
    (server.data / "blobs").rename(server.directory / "lost")
    assert server.cli("verify").returncode == 1
    server.stop()
    server.json("restore", str(file))
    server.start()
    assert server.json("verify", "--hash")["findings"] == []
    assert pusher.request("GET", f"/v2/{NAME}/manifests/v1")[2] == manifest
    assert pusher.request("GET", f"/v2/{NAME}/blobs/{Digest.of(b'a layer')}")[2] == b"a layer"


def test_a_moved_image_is_pulled_by_its_old_and_its_new_name_from_every_worker_at_once(server: Gateway) -> None:
    pusher = made_pusher(server)
    manifest = pusher.push_image(b"{}", b"a layer", "v1")
    names = [NAME]
    for kind, old, new, name in [
        ("repository", NAME, "team/app/site", "team/app/site"),
        ("project", "team/app", "team/shop", "team/shop/site"),
        ("group", "team", "crew", "crew/shop/site"),
    ]:
        server.json(kind, "move", old, new)
        names.append(name)
        for known in names:
            for _ in range(8 * WORKERS):
                status, _, body = pusher.request("GET", f"/v2/{known}/manifests/v1")
                assert (status, body) == (200, manifest), (kind, known)
