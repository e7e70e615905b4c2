"""Requests for invalid, unknown and forbidden names: each is refused with a reason, and nothing is done for it."""

import ast
import asyncio
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.store.filesystem import FilesystemStore
from cache.values import BlobInfo, Link
from gateway.cli import folder
from gateway.data_folder import CacheFolder
from gateway.db import groups
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.v2.opener import RegistryOptions
from gateway.v2.root_selection import root_table
from gateway.wiring.app import create_app
from gateway.wiring.lifespan import open_services
from tests.gateway.asgi import Exchange, send_request
from tests.gateway.vectors import DENIED, IMAGE, PROXIED, Vector, all_vectors
from tests.parts.gateway import ROOT, toml
from tests.parts.images import digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.ports import HOST, free_port
from tests.parts.processes import Process, answers_http, plain_environment
from tests.parts.raw import RawStream

VECTORS = all_vectors()
CONTENT = seeded("held", 1_000)
CACHED_BLOB = f"{PROXIED}/{IMAGE}/blobs/{digest_of(CONTENT)}"
SENTENCE = re.compile(r"\S+ \S+ \S+.*", re.DOTALL)
ROOTS = root_table("http://127.0.0.1:8080", {}, "hub", {})
OPTIONS = RegistryOptions(open_proxy=True)
NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


async def test_the_table_has_enough_requests() -> None:
    assert len({vector.target for vector in VECTORS}) >= 200


def settings(canary: Liar) -> dict[str, Any]:
    return {"upstreams": {"docker.io": canary.settings(deny=[DENIED])}}


async def prepare(data: Path) -> None:
    """Create, beside the open `hub`, a group whose proxy is off and one that requires a login."""
    async with (
        folder.open_made(Settings.model_validate({"data": str(data)})) as database,
        database.write() as connection,
    ):
        for path, proxy_enabled in (("off", False), ("closed", True)):
            group = await groups.create(connection, path, NOW)
            await groups.update(connection, replace(group, proxy_enabled=proxy_enabled))


async def cache_blob(services: Services, data: Path) -> None:
    """Put a blob into the cache, as if it had been pulled."""
    digest = Digest.of(CONTENT)
    arrived = data / "spool" / "arrived"
    arrived.write_bytes(CONTENT)
    FilesystemStore(CacheFolder(data).blobs).adopt(arrived, digest)
    hub = await services.directory.find_group("hub")
    assert hub is not None
    link = Link(services.upstreams.source(hub, "docker.io"), RepositoryName(IMAGE), digest)
    await services.pull_through.index.record(BlobInfo(digest, len(CONTENT)), link)


@contextmanager
def untouched() -> Iterator[Liar]:
    """Run an upstream that must not be reached during the block."""
    with Liar() as canary:
        yield canary
        assert canary.connections == 0, f"the upstream was reached: {canary.requests.select()}"


def files(data: Path) -> dict[str, bytes | None]:
    """Content of a data folder by path, without the files that an open database keeps beside itself."""
    return {
        str(path.relative_to(data)): path.read_bytes() if path.is_file() else None
        for path in sorted(data.rglob("*"))
        if not path.name.endswith(("-wal", "-shm")) and not path.name.startswith("usage.db")
    }


@dataclass(frozen=True)
class Surface:
    app: ASGIApp
    services: Services


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surface]:
    data = tmp_path_factory.mktemp("surface") / "data"
    with untouched() as canary:
        await prepare(data)
        async with open_services(Settings.model_validate({"data": str(data), **settings(canary)})) as services:
            await cache_blob(services, data)
            before = files(data)
            yield Surface(create_app(services, ROOTS, OPTIONS), services)
            assert files(data) == before


def check(vector: Vector, found: Exchange, *, body: bool = True) -> None:
    assert found.status == vector.status, found.body
    assert found.headers["docker-distribution-api-version"] == "registry/2.0"
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert len(found.headers.all("x-request-id")) == 1
    assert "x-cache" not in found.headers
    assert "server" not in found.headers
    if body:
        error = found.error
        assert error["code"] == vector.code
        assert isinstance(error["message"], str)
        assert SENTENCE.fullmatch(error["message"]), error["message"]
        assert vector.says in error["message"]
        assert len(error["message"]) < 1_000


@pytest.mark.parametrize("vector", VECTORS, ids=str)
async def test_it_is_refused_with_a_code_and_a_reason(vector: Vector, surface: Surface) -> None:
    check(vector, await send_request(surface.app, vector.method, vector.target, vector.headers))


async def test_a_refusal_repeats_only_the_start_of_a_request(surface: Surface) -> None:
    for target in (f"/{'x' * 8_000}", f"{PROXIED}/x/manifests/{'y' * 8_000}", f"{PROXIED}/x/blobs/{'z' * 8_000}"):
        assert len((await send_request(surface.app, "GET", target)).body) < 1_000
    assert len((await send_request(surface.app, "X" * 8_000, "/v2/")).body) < 1_000
    assert len((await send_request(surface.app, "GET", f"{PROXIED}/x/tags/list?n={'1' * 8_000}")).body) < 1_000


@pytest.mark.parametrize("host", ["evil.example", "evil.example/path", "[", "a@evil.example", "evil.example:99999", ""])
async def test_a_host_header_changes_no_refusal(host: str, surface: Surface) -> None:
    for target in ("/nothing", f"{PROXIED}/{DENIED}/tags/list"):
        headers = [("Host", host), ("X-Forwarded-Host", host), ("Forwarded", f"host={host}")]
        found = await send_request(surface.app, "GET", target, headers)
        assert found.body == (await send_request(surface.app, "GET", target)).body


@pytest.mark.parametrize("target", [f"{PROXIED}/{IMAGE}/tags/list", "/-/ready"])
async def test_an_unexpected_error_has_the_same_form_and_is_logged_once(target: str, surface: Surface) -> None:
    nothing: Any = SimpleNamespace(tree=None)
    broken = create_app(replace(surface.services, directory=nothing), ROOTS, OPTIONS)
    with capture_logs() as events:
        found = await send_request(broken, "GET", target)
    check(Vector("GET", target, 500, "UNKNOWN", "request id"), found)
    assert b"SimpleNamespace" not in found.body
    assert [event["event"] for event in events] == ["request_failed", "request"]
    assert {event["request_id"] for event in events} == {found.headers["x-request-id"]}


# Ranges of a cached blob


async def test_the_cached_blob_is_served(surface: Surface) -> None:
    found = await send_request(surface.app, "GET", CACHED_BLOB)
    assert (found.status, found.body, found.headers["x-cache"]) == (200, CONTENT, "HIT")


@pytest.mark.parametrize("wanted", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=9999999999999999999-"])
async def test_a_range_behind_the_end_is_refused_with_the_size(wanted: str, surface: Surface) -> None:
    found = await send_request(surface.app, "GET", CACHED_BLOB, [("Range", wanted)])
    check(Vector("GET", CACHED_BLOB, 416, "RANGE_INVALID", "1000 bytes"), found)
    assert found.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    "wanted",
    [
        *("bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-1", "bytes=0-1,2-3", "bytes=" + "0-," * 10_000),
        *("items=0-1", "bytes=0-1;q=1", "bytes=0x0-0x1", "bytes=" + "9" * 5_000 + "-", "bytes=-" + "9" * 5_000),
    ],
    ids=lambda wanted: wanted[:20],
)
async def test_for_an_invalid_range_the_whole_blob_is_sent(wanted: str, surface: Surface) -> None:
    found = await send_request(surface.app, "GET", CACHED_BLOB, [("Range", wanted)])
    assert (found.status, found.body) == (200, CONTENT)


async def test_the_blob_of_one_image_is_not_served_under_a_denied_name(surface: Surface) -> None:
    for name in (DENIED, "secret", "docker.io/secret", f"docker.io/{DENIED}", f"index.docker.io/{DENIED}"):
        assert (await send_request(surface.app, "GET", CACHED_BLOB.replace(IMAGE, name))).status == 403


# Requests over a socket, and the system calls of the server meanwhile


class Audited:
    """Server that records in a file what it requests from the operating system."""

    def __init__(self, directory: Path, canary: Liar) -> None:
        self.data = directory / "data"
        self.port = free_port()
        self._record = directory / "record"
        config = directory / "gateway.toml"
        config.write_text(toml({"check_upstreams": False, **settings(canary)}))
        words = ["serve", f"--config={config}", f"--data={self.data}", f"--host={HOST}", f"--port={self.port}"]
        words.append("--workers=1")
        self.process = Process(
            [sys.executable, "-m", "tests.gateway.audited", self._record, *words],
            log=directory / "log",
            environment=plain_environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", NO_COLOR="1"),
            directory=directory,
        )

    def start(self) -> None:
        self.process.start(answers_http(f"http://{HOST}:{self.port}/-/ready"))

    def recorded(self) -> list[tuple[str, str]]:
        return recorded(self._record)

    def request(self, vector: Vector) -> Exchange:
        with socket.create_connection((HOST, self.port), timeout=30) as connection:
            head = f"{vector.method} {vector.target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode("ascii"))
            stream = RawStream(connection, vector.method, 0)
            return Exchange(stream.status, stream.headers, stream.read_all(), stream.complete)


def recorded(file: Path) -> list[tuple[str, str]]:
    lines = (line.split("\t", 1) for line in file.read_text().splitlines())
    return [(event, ast.literal_eval(path)) for event, path in lines]


def permitted(path: str, data: Path) -> bool:
    """Whether a server may touch a path: its data, Python, our code, and what the resolver and the clock read."""
    folders = [
        str(data),
        str(ROOT),
        sys.prefix,
        sys.base_prefix,
        *sysconfig.get_paths().values(),
        "/proc",
        "/dev",
        "/etc",
    ]
    path = path.removeprefix("file://")  # SQLite is given a URI
    outside = re.search(r"(^|/)\.\.?(/|$)|passwd|shadow", path) is not None
    return not outside and any(path == place or path.startswith(f"{place}/") for place in folders)


@pytest.mark.usefixtures("processes")
async def test_an_audited_process_records_its_system_calls(scratch: Path) -> None:
    code = (
        "import os, pathlib, socket, threading, tests.gateway.audited as audited; audited.watch('record');"
        "os.path.exists('/a'); pathlib.Path('/b').exists();"
        "thread = threading.Thread(target=lambda: open('/etc/hostname').close()); thread.start(); thread.join();"
        "os.rename('record', 'c'); socket.socket().connect_ex(('127.0.0.1', 1))"
    )
    environment = plain_environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", code]
    await asyncio.to_thread(subprocess.run, command, cwd=scratch, env=environment, check=True, timeout=30)
    assert recorded(scratch / "c") == [
        *(("os.stat", "/a"), ("os.stat", "/b"), ("open", "/etc/hostname"), ("os.rename", "record"), ("os.rename", "c")),
        ("socket.connect", "('127.0.0.1', 1)"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *(("/data", True), ("/data/cache.db", True), ("/etc/hosts", True), (sys.prefix + "/lib/x", True)),
        *(("/etc/passwd", False), ("/data/../etc/x", False), ("/datax", False), ("/tmp", False), ("x", False)),
    ],
)
async def test_what_a_server_may_touch_is_its_own(path: str, expected: bool) -> None:
    assert permitted(path, Path("/data")) is expected


@pytest.mark.usefixtures("processes")
async def test_a_running_server_touches_nothing_for_any_of_them(scratch: Path) -> None:
    with untouched() as canary:
        server = Audited(scratch, canary)
        await prepare(server.data)
        server.start()
        try:
            server.request(Vector("GET", "/-/health", 200, ""))
            before, beginning = files(server.data), len(server.recorded())
            for vector in VECTORS:
                found = server.request(vector)
                assert found.complete, vector
                check(vector, found, body=vector.method != "HEAD")
            meanwhile = server.recorded()[beginning:]
            assert files(server.data) == before
            server.process.signal(signal.SIGTERM)
            assert server.process.wait() == 0
        finally:
            server.process.kill()
        assert [entry for entry in meanwhile if not permitted(entry[1], server.data)] == []
        assert "Traceback" not in server.process.log_text()
        opened = [path for event, path in server.recorded() if event == "sqlite3.connect"]
        assert any(str(server.data / "gateway.db") in path for path in opened)
