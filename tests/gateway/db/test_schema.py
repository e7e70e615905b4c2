"""The tables of gateway.db, as the schema states them."""

import pytest
from sqlalchemy import Column, Table, UniqueConstraint

from gateway.db.schema import metadata


def is_indexed(table: Table, column: Column[object]) -> bool:
    """Whether an index or a unique constraint begins with the column."""
    unique = [constraint.columns for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    indexes = [index.columns for index in table.indexes]
    return column.primary_key or any(next(iter(columns)) is column for columns in [*unique, *indexes])


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_each_reference_to_another_table_is_indexed(table: Table) -> None:
    """Without an index, the deletion of one row of the other table reads this one whole."""
    assert [column.name for column in table.c if column.foreign_keys and not is_indexed(table, column)] == []
