"""What the end-to-end tests share beside the parts."""

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
def long_lived(workplace: Path) -> Iterator[LongLived]:
    """As `gateway`, for a server that all tests of a module ask; each for content of its own."""
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
    """Whatever a test does from outside, our server has nothing to be surprised at."""
    yield
    for server in [*request.node.stash[GATEWAYS], *shared_servers(request.node)]:
        assert trouble(server) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of long-lived servers beside a failure, too."""
    report = yield
    if report.failed:
        for server in shared_servers(item):
            report.sections.append((f"log of {server.directory.name}", server.log_text()[-LOG_TAIL:]))
    return report


def shared_servers(item: pytest.Item) -> list[Gateway]:
    """The servers that a test was given by fixtures of its module."""
    given = getattr(item, "funcargs", {}).values()
    return [value for value in given if isinstance(value, Gateway)]
