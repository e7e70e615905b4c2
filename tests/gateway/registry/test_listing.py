"""Readers of lists of tags take turns, so that whoever reads many keeps nobody else waiting."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from cache.oci.errors import Busy
from cache.runtime.fair_queue import Requester
from gateway.namespaces.project import Project
from gateway.registry.base import WritableRepository
from gateway.registry.native import FEW_TAGS
from gateway.registry.native_store import NativeStore
from gateway.registry.parts import LISTS_AT_ONCE
from tests.gateway.registry.conftest import NAME
from tests.gateway.registry.stores import OWNER

GREEDY, OTHER = Requester("192.0.2.1"), Requester("192.0.2.2")


async def test_a_list_waits_for_its_reader_s_turn_and_for_nobody_else(
    store: NativeStore, project: Project, repository: WritableRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await repository.begin_upload(OWNER)
    parts = store._parts
    monkeypatch.setattr(parts._listing, "_seconds", 0.1)

    async def read(who: Requester) -> None:
        await store.repository(project, NAME, who=who).tags(None)

    async with AsyncExitStack() as held:
        for _ in range(LISTS_AT_ONCE):
            await held.enter_async_context(parts.listing(GREEDY))
        with pytest.raises(Busy):
            await read(GREEDY)
        assert (await store.repository(project, NAME, who=GREEDY).tags(FEW_TAGS)).page.tags == []
        async with asyncio.timeout(10):
            await read(OTHER)
    await read(GREEDY)
