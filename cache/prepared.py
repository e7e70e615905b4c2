"""Statements that are built and compiled once, for what every pull and push does.

To build a statement of SQLAlchemy, to find its compiled form in a cache and to wrap its result takes ten to thirty
times as long as SQLite takes to execute it. A prepared statement is a constant whose values are all parameters: an
SqlitePreparation executes its text, and any other connection executes it as it does all statements.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler

S = TypeVar("S", bound=Executable)

_OPTION = "prepared"
_PREPARATION = "preparation"
Convert = Callable[[Any], Any] | None


def prepared(statement: S) -> S:
    """Mark a statement that is made once, for the life of the process, and executed with the same names each time."""
    return statement.execution_options(**{_OPTION: True})


def is_prepared(statement: Any) -> bool:
    return _OPTION in statement.get_execution_options()


def execute(connection: Connection, statement: Any, values: Mapping[str, Any]) -> Result[Any]:
    """Execute a prepared statement on a connection of pysqlite, which keeps its text for as long as it stays open.
    Raises IntegrityError as SQLAlchemy does, and all else as the driver does."""
    preparation = connection.info.get(_PREPARATION)
    if preparation is None:
        preparation = connection.info[_PREPARATION] = SqlitePreparation(connection)
    found: Result[Any] = preparation.execute(statement, values)
    return found


class SqlitePreparation:
    """Prepared statements of one connection of the driver pysqlite."""

    def __init__(self, connection: Connection) -> None:
        self._dialect = connection.dialect
        self._driver: Any = connection.connection.driver_connection
        self._violation: Any = self._dialect.loaded_dbapi.IntegrityError
        self._compiled: dict[Any, _Compiled] = {}

    def execute(self, statement: Any, values: Mapping[str, Any]) -> Result[Any]:
        """Execute a prepared statement. Raises as a connection of SQLAlchemy does, without values in the text."""
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = _Compiled(statement, self._dialect, list(values))
        try:
            cursor = self._driver.execute(compiled.text, compiled.bind(values))
            rows = cursor.fetchall() if compiled.metadata is not None else []
        except self._violation as error:
            raise IntegrityError(compiled.text, None, error, hide_parameters=True) from error
        return IteratorResult(compiled.metadata or _NO_COLUMNS, map(compiled.read, rows))


class _Compiled:
    """Text of a statement, and how values get into it and out of it."""

    def __init__(self, statement: Any, dialect: Dialect, names: list[str]) -> None:
        """`names`: of the values; those of columns are what an INSERT or an UPDATE sets."""
        compiled = statement.compile(dialect=dialect, column_keys=names)
        assert isinstance(compiled, SQLCompiler)
        self.text = compiled.string
        constants: Mapping[str, Any] = compiled.params
        self._places = [
            (name, constants[name], compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        columns = list(getattr(statement, "exported_columns", ()))
        self.metadata = SimpleResultMetaData([column.key for column in columns]) if columns else None
        self._conversions: list[Convert] = [
            column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns
        ]
        self._converts = any(self._conversions)

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        bound = []
        for name, constant, convert in self._places:
            value = values.get(name, constant)
            bound.append(value if convert is None else convert(value))
        return bound

    def read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._converts:
            return row
        pairs = zip(self._conversions, row, strict=True)
        return tuple(value if convert is None else convert(value) for convert, value in pairs)


_NO_COLUMNS = SimpleResultMetaData([])
