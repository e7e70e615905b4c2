"""Servers with workers, and their upstream."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import GatewayFactory
from tests.gateway.processes.observed import metric
from tests.parts.gateway import Gateway
from tests.parts.liar import Liar
from tests.parts.processes import wait_until


@pytest.fixture
def upstream() -> Iterator[Liar]:
    with Liar() as upstream:
        yield upstream


@pytest.fixture
def start(gateway: GatewayFactory, upstream: Liar) -> Callable[..., Gateway]:
    """Start a server with two workers, and wait until both serve."""

    def start(workers: int = 2, **options: object) -> Gateway:
        server = gateway({"workers": workers, "upstreams": {"docker.io": upstream.settings()}}, **options)
        wait_until(lambda: metric(server, "gateway_workers") == workers)
        return server

    return start
