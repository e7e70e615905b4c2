"""Fixtures of the end-to-end tests, in addition to the parts."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GATEWAYS, LOG_TAIL, GatewayFactory
from tests.parts.gateway import Gateway

from .datafolder import trouble

LongLived = Callable[..., Gateway]


@pytest.fixture(scope="module")
def long_lived(workplace: Path, processes: None) -> Iterator[LongLived]:
    """Starts servers like `gateway` does, for all tests of a module; each test uses separate content."""
    servers: list[Gateway] = []
    with tempfile.TemporaryDirectory(dir=workplace) as directory:

        def start(config: Mapping[str, Any], **options: Any) -> Gateway:
            server = Gateway(Path(directory) / f"gateway-{len(servers)}", config, **options)
            servers.append(server)
            server.start()
            return server

        yield start
        for server in servers:
            server.kill()


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest, gateway: GatewayFactory) -> Iterator[None]:
    """Checks that the server's log holds no unexpected error, whatever the test did from outside."""
    yield
    for server in [*request.node.stash[GATEWAYS], *shared_servers(request.node)]:
        assert trouble(server) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the logs of long-lived servers to the report of a failure."""
    report = yield
    if report.failed:
        for server in shared_servers(item):
            report.sections.append((f"log of {server.directory.name}", server.log_text()[-LOG_TAIL:]))
    return report


def shared_servers(item: pytest.Item) -> list[Gateway]:
    """Servers that a test got from fixtures of its module."""
    given = getattr(item, "funcargs", {}).values()
    return [value for value in given if isinstance(value, Gateway)]
