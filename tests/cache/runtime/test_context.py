"""Blocks in which a context variable has a value."""

from contextvars import ContextVar

import pytest

from cache.runtime.context import Within

place: ContextVar[str] = ContextVar("place", default="nowhere")


def test_a_value_ends_with_its_block_also_where_that_raises() -> None:
    with Within(place, "outside"):
        with pytest.raises(ValueError, match="inside"), Within(place, "inside"):
            raise ValueError(place.get())
        assert place.get() == "outside"
    assert place.get() == "nowhere"
