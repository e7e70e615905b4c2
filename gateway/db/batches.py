"""Batches of values for one statement each, since engines limit how many a statement has."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

BATCH = 500
"""Values of one statement; older versions of SQLite take 999 in all."""


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    """Divide values into lists of at most BATCH, in their order."""
    remaining = iter(values)
    while batch := list(islice(remaining, BATCH)):
        yield batch
