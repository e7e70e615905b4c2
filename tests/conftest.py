"""Fixtures that start the parts for a test, and the choice and order of tests.

A part starts when a test first requests it. A fixture of scope "session" exists once in each worker process of
pytest-xdist: workers share neither files nor servers nor ports.
"""

import asyncio
import gc
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cache import sqlite
from tests.parts.canaries import found_below, found_in
from tests.parts.certs import Authority
from tests.parts.clients import Podman, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout, Images
from tests.parts.liar import Liar
from tests.parts.migrated import RUN_MIGRATIONS, RecordedMigrations
from tests.parts.ports import reserve_ports
from tests.parts.postgresql import Databases, Postgresql
from tests.parts.registry import Registry

GATEWAYS = pytest.StashKey[list[Gateway]]()
LOG_TAIL = 8_000
QUICK_EXAMPLES = 25
"""How many examples of a property a quick run tries, where a whole run tries a hundred."""

GatewayFactory = Callable[..., Gateway]
Publish = Callable[..., ImageLayout]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="run only tests that start no process; fail one that does")


def pytest_configure(config: pytest.Config) -> None:
    """Makes quick runs try fewer examples of each property, and no property fail since the machine is busy."""
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    examples = QUICK_EXAMPLES if config.getoption("quick") else patient.max_examples
    settings.register_profile("tests", patient, max_examples=examples)
    settings.load_profile("tests")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spares the thousands of tests, which live as long as the process, every search for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the long files first; with --quick, leaves out every test that starts a process.

    Workers take the files in this order. The last ones are short, so that no worker waits long for another.
    """
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = min(ranks.get(item.path, 2), _rank(item))
    items.sort(key=lambda item: ranks[item.path])  # a stable sort: files of one rank keep their order
    if config.getoption("quick"):
        config.hook.pytest_deselected(items=[item for item in items if _starts_processes(item)])
        items[:] = [item for item in items if not _starts_processes(item)]


def _rank(item: pytest.Item) -> int:
    """Rank of a test: 0 if it takes a minute by itself, 1 if it starts processes, 2 otherwise."""
    if item.get_closest_marker("long"):
        return 0
    return 1 if _starts_processes(item) else 2


def _starts_processes(item: pytest.Item) -> bool:
    return "processes" in getattr(item, "fixturenames", ()) or item.get_closest_marker("processes") is not None


@pytest.fixture(scope="session")
def processes() -> None:
    """Permits a test to start processes, such as our server, a real registry or a client.

    Every fixture and every test that starts one requests this fixture. Quick runs leave out each test that requests it,
    directly or through other fixtures.
    """


@pytest.fixture(scope="session", autouse=True)
def no_processes_in_quick_runs(request: pytest.FixtureRequest) -> None:
    """Makes a test of a quick run fail if it starts a process although it does not request `processes`."""
    if request.config.getoption("quick"):
        sys.addaudithook(_refuse_processes)


def _refuse_processes(event: str, _: object) -> None:
    if event in ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system"):
        raise AssertionError("a test that starts a process must request the fixture `processes`")


@pytest.fixture(autouse=True)
def own_ports() -> None:
    """Reserves ports before a test counts its open descriptors."""
    reserve_ports()


@pytest.fixture(scope="session", autouse=True)
def recorded_migrations() -> Iterator[None]:
    """Makes new databases from the recorded outcome of the migrations, but for tests that use `real_migrations`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "run_migrations", RecordedMigrations().upgrade)
        yield


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the migrations themselves for every database of a test."""
    monkeypatch.setattr(sqlite, "run_migrations", RUN_MIGRATIONS)


@pytest.fixture(scope="session")
def workplace() -> Iterator[Path]:
    """Makes a folder for files that all tests of a worker share, and deletes it at the end.

    Pytest's own folders would be kept for three runs.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-tests-") as directory:
        yield Path(directory)


@pytest.fixture
def scratch(workplace: Path) -> Iterator[Path]:
    """Makes a folder for one test's large files; it is deleted after the test."""
    with tempfile.TemporaryDirectory(dir=workplace) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def images(workplace: Path) -> Images:
    """Makes each test image on first use: `images.tiny`, `.other`, `.mid`, `.big`, `.multi`, `.referrer`."""
    return Images(workplace / "images")


@pytest.fixture(scope="session")
def authority(workplace: Path) -> Authority:
    """Makes the certificate authority behind every TLS port of the tests."""
    return Authority(workplace / "certs")


@pytest.fixture(scope="session")
def registry(workplace: Path, processes: None) -> Iterator[Registry]:
    """Starts the real registry that all tests share; a test that moves tags or deletes uses names of its own."""
    registry = Registry(workplace / "registry")
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def databases(processes: None) -> Iterator[Databases]:
    """Starts the PostgreSQL server that all tests of a worker share; each test creates databases of its own."""
    server = Postgresql()
    try:
        server.start()
        databases = Databases(server)
        with ThreadPoolExecutor(1) as pool:  # in a thread, for this one may have an event loop
            pool.submit(asyncio.run, databases.prepare()).result()
        yield databases
    finally:
        server.close()


@pytest.fixture(scope="session")
def published(images: Images, registry: Registry) -> Publish:
    """Publishes an image in the shared registry and returns its layout.

    `published("tiny")` makes `library/tiny:latest` exist; `published("tiny", repository="acme/app", tag="v1")` uses
    another name.
    """

    def publish(image: str, *, repository: str = "", tag: str = "latest") -> ImageLayout:
        layout = images[image]
        registry.push(layout, repository or f"library/{image}", tag)
        return layout

    return publish


@pytest.fixture(scope="session")
def plain_hub_servers(registry: Registry) -> Iterator[Hub]:
    """Starts a Docker Hub over plain http, which a test uses through the fixture `hub`."""
    hub = Hub(registry.url, registry.folder)
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def tls_hub_servers(registry: Registry, authority: Authority) -> Iterator[Hub]:
    """Starts a Docker Hub over TLS, which a test uses through the fixture `tls_hub`."""
    hub = Hub(registry.url, registry.folder, authority)
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture
def hub(plain_hub_servers: Hub) -> Iterator[Hub]:
    """Provides a Docker Hub over plain http, with its knobs reset and an empty log for each test."""
    plain_hub_servers.reset()
    yield plain_hub_servers
    plain_hub_servers.reset()


@pytest.fixture
def tls_hub(tls_hub_servers: Hub) -> Iterator[Hub]:
    """Provides a Docker Hub over TLS, with its knobs reset and an empty log for each test."""
    tls_hub_servers.reset()
    yield tls_hub_servers
    tls_hub_servers.reset()


@pytest.fixture
def liar() -> Iterator[Liar]:
    """Starts a scripted upstream over plain http, empty and honest."""
    with Liar() as liar:
        yield liar


@pytest.fixture
def tls_liar(authority: Authority) -> Iterator[Liar]:
    """Starts a scripted upstream over TLS, empty and honest."""
    with Liar(authority) as liar:
        yield liar


@pytest.fixture
def canary() -> Iterator[Liar]:
    """Starts a listener that nothing may reach; the test fails at its end if a client has connected."""
    with Liar() as listener:
        yield listener
    assert listener.connections == 0, f"the canary was reached: {listener.requests.select()}"


@pytest.fixture
def skopeo(scratch: Path, processes: None) -> Skopeo:
    """Provides skopeo with a home of its own."""
    return Skopeo(scratch / "skopeo")


@pytest.fixture
def podman(scratch: Path, processes: None) -> Iterator[Podman]:
    """Provides podman with storage of its own, which is deleted after the test."""
    podman = Podman(scratch / "podman")
    yield podman
    podman.close()


@pytest.fixture
def gateway(request: pytest.FixtureRequest, scratch: Path, processes: None) -> Iterator[GatewayFactory]:
    """Starts our server, as in `gateway({"upstreams": {"docker.io": hub.settings()}})`; it is stopped after the test.

    Keywords: `name` (its folder; the same name again means the same data), `start=False`, and the keywords of Gateway.
    """
    started = request.node.stash.setdefault(GATEWAYS, [])

    def start(
        config: str | Mapping[str, Any] = "", *, name: str = "gateway", start: bool = True, **options: Any
    ) -> Gateway:
        server = Gateway(scratch / name, config, **options)
        started.append(server)
        if start:
            server.start()
        return server

    yield start
    for server in started:
        server.kill()
        shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
        assert not any(shown.values()), f"secrets show in {shown}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the logs of our servers to the report of a failure."""
    report = yield
    if report.failed:
        for server in item.stash.get(GATEWAYS, []):
            report.sections.append((f"log of {server.directory.name}", server.log_text()[-LOG_TAIL:]))
    return report
