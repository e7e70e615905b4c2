"""What the tests of this folder share: a server that all may attack, and what it says of itself."""

import os
from collections.abc import Iterator

import pytest

from tests.conftest import GATEWAYS
from tests.e2e.datafolder import trouble
from tests.parts.gateway import Gateway


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Our server for a whole module, its log in JSON."""
    server = Gateway(tmp_path_factory.mktemp("security"), arguments=["--log-format=json"])
    server.start()
    yield server
    server.kill()


@pytest.fixture
def target(shared: Gateway, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """The shared server; whatever a test sends to it, it has nothing to be surprised at."""
    request.node.stash[GATEWAYS] = [shared]
    begins = len(trouble(shared))
    yield shared
    assert trouble(shared)[begins:] == []


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
