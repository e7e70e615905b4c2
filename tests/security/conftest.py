"""Fixtures of the security tests: a server that every test may attack, and a check of its log."""

from collections.abc import Iterator

import pytest

from tests.conftest import GATEWAYS
from tests.e2e.datafolder import trouble
from tests.parts.gateway import Gateway
from tests.parts.holdings import descriptor_targets


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Gateway]:
    """Starts a server for a whole module, with its log in JSON."""
    server = Gateway(tmp_path_factory.mktemp("security"), arguments=["--log-format=json"])
    server.start()
    yield server
    server.kill()


@pytest.fixture
def target(shared: Gateway, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """Provides the shared server; whatever a test sends to it, its log must hold no error."""
    request.node.stash[GATEWAYS] = [shared]
    begins = len(trouble(shared))
    yield shared
    assert trouble(shared)[begins:] == []


def descriptors(pid: int) -> int:
    """Count the open files of a process without its databases, of which a first crowd opens a few more for good."""
    return sum(".db" not in target for target in descriptor_targets(pid))
