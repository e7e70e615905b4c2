"""Queries: what waits at the same time runs in one transaction, and nobody pays for another's failure."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cache.index.queries import LONGEST_BATCH, READERS, Queries, Query


class Transactions:
    """Notes each transaction; while `closed`, they wait at its gate."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Semaphore(0)

    def __call__(self, query: Query[Any]) -> Any:
        self.count += 1
        self.reached.release()
        assert self.gate.wait(30)
        result = query(None)  # type: ignore[arg-type]
        if self.failures:
            self.failures -= 1
            raise OSError("the transaction could not be ended")
        return result


@pytest.fixture
def transactions() -> Transactions:
    return Transactions()


@pytest.fixture
def queries(transactions: Transactions) -> Iterator[Queries]:
    made = Queries(transactions)
    yield made
    transactions.gate.set()
    made.close()


async def occupied(queries: Queries, transactions: Transactions) -> list["asyncio.Future[int]"]:
    """Occupy all threads, so that what is requested next has to wait."""
    transactions.gate.clear()
    busy = []
    for number in range(READERS):
        busy.append(queries.run(lambda _, number=number: number))  # type: ignore[misc]
        assert await asyncio.to_thread(transactions.reached.acquire, timeout=30)
    return busy


async def test_queries_that_wait_run_in_one_transaction(queries: Queries, transactions: Transactions) -> None:
    busy = await occupied(queries, transactions)
    waiting = [queries.run(lambda _, number=number: number * 10) for number in range(12)]  # type: ignore[misc]
    transactions.gate.set()
    assert await asyncio.gather(*busy, *waiting) == [*range(READERS), *range(0, 120, 10)]
    assert transactions.count == READERS + 1


async def test_no_transaction_grows_without_bound(queries: Queries, transactions: Transactions) -> None:
    busy = await occupied(queries, transactions)
    waiting = [queries.run(lambda _: None) for _ in range(3 * LONGEST_BATCH)]
    transactions.gate.set()
    await asyncio.gather(*busy, *waiting)
    assert transactions.count == READERS + 3


async def test_a_query_that_fails_fails_no_other(queries: Queries, transactions: Transactions) -> None:
    def failing(_: object) -> None:
        raise ValueError("wrong")

    await occupied(queries, transactions)
    before, wrong, worse, after = (queries.run(query) for query in (lambda _: 1, failing, failing, lambda _: 2))
    transactions.gate.set()
    assert await asyncio.gather(before, after) == [1, 2]
    errors = await asyncio.gather(wrong, worse, return_exceptions=True)
    assert [str(error) for error in errors] == ["wrong", "wrong"] and errors[0] is not errors[1]


async def test_a_transaction_that_cannot_be_ended_fails_none_of_its_queries(
    queries: Queries, transactions: Transactions
) -> None:
    await occupied(queries, transactions)
    transactions.failures = READERS + 1
    waiting = [queries.run(lambda _, number=number: number) for number in range(3)]  # type: ignore[misc]
    transactions.gate.set()
    assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_whoever_leaves_takes_nothing_from_the_others(queries: Queries, transactions: Transactions) -> None:
    await occupied(queries, transactions)
    left, stays = queries.run(lambda _: 1), queries.run(lambda _: 2)
    left.cancel()
    transactions.gate.set()
    assert await stays == 2


async def test_a_query_after_a_pause_starts_a_thread_again(queries: Queries, transactions: Transactions) -> None:
    assert [await queries.run(lambda _, number=number: number) for number in range(5)] == [*range(5)]  # type: ignore[misc]
    assert transactions.count == 5
