"""VirtualClients: what of an upstream needs another client, and how many there are."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cache.upstream.egress import UNWATCHED, Egress
from cache.upstream.ledger import Ledger
from gateway.keys.sealing import Sealer
from gateway.namespaces.virtual_registry import VirtualUpstream
from gateway.virtual import clients as clients_module
from gateway.virtual.clients import LINGERING, VirtualClients

NOW = datetime(2025, 3, 4, tzinfo=UTC)


def upstream(id: int, group_id: int = 1) -> VirtualUpstream:
    return VirtualUpstream(
        *(id, group_id, "https://registry.example", "up", "", 24, None, None, f"key{id}", NOW, NOW),
    )


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Egress]:
    closed: list[Egress] = []
    close = Egress.close

    async def noted(self: Egress) -> None:
        closed.append(self)
        await close(self)

    monkeypatch.setattr(Egress, "close", noted)
    return closed


@pytest.fixture
async def clients(tmp_path: Path, closed: list[Egress]) -> AsyncIterator[VirtualClients]:
    clients = VirtualClients(Sealer(tmp_path), Ledger(), lambda label: UNWATCHED, frozenset())
    yield clients
    await clients.close()


async def test_a_client_stays_while_its_upstream_is_called_otherwise(clients: VirtualClients) -> None:
    one = upstream(1)
    first = clients.client(one)
    assert clients.client(replace(one, name="new", description="new", cache_validity_hours=1, updated_at=NOW)) is first
    assert clients.client(replace(one, cache_key="other")) is not first


async def test_changes_of_an_upstream_leave_few_clients_behind(clients: VirtualClients, closed: list[Egress]) -> None:
    one = upstream(1)
    for number in range(LINGERING + 4):
        clients.client(replace(one, cache_key=str(number)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(closed) == 3 and len(set(map(id, closed))) == 3


async def test_the_group_that_has_most_clients_loses_one_first(
    clients: VirtualClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "KEPT", 4)
    first = clients.client(upstream(1))
    many = [clients.client(upstream(id, 2)) for id in range(2, 7)]
    assert clients.client(upstream(1)) is first
    assert [clients.client(upstream(id, 2)) is many[id - 2] for id in (4, 5, 6)] == [True] * 3
    assert clients.client(upstream(2, 2)) is not many[0]
