"""Types of columns that hold what people and clients write: what no column can hold is never sent to the database.

PostgreSQL stores no NUL and no id above 2^31 - 1, and neither engine a lone surrogate. A lookup of such a value finds
nothing, on both engines; a statement that would store it is refused before it is sent.
"""

from typing import Any

from sqlalchemy import Dialect, Integer, String
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

from gateway.db.dialects import POSTGRESQL
from gateway.namespaces.errors import TreeError

LARGEST_ID = 2**31 - 1
SMALLEST_ID = -(2**31)


class ValueUnstorable(DontWrapMixin, TreeError):
    """A value that no column of its kind can hold was about to be stored."""


class StoredText(TypeDecorator[str]):
    """Text of a column. Compared with a text that cannot be stored, it equals nothing."""

    impl = String
    cache_ok = True

    def __init__(self, length: int | None = None, bytewise: bool = False) -> None:
        """`length`: the most characters, None for any number. `bytewise`: compared byte by byte on both engines, so
        that an index serves prefixes."""
        super().__init__(length)
        self.length = length
        self.bytewise = bytewise

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        is_collated = self.bytewise and dialect.name == POSTGRESQL
        return dialect.type_descriptor(String(self.length, collation="C" if is_collated else None))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Check a value that is about to be stored. Raises ValueUnstorable."""
        if value is None:
            return None
        if not is_storable_text(value):
            raise ValueUnstorable("a text with a NUL or with half of a character cannot be stored: leave it out")
        if self.length is not None and len(value) > self.length:
            raise ValueUnstorable(f"a text of {len(value)} characters cannot be stored: use at most {self.length}")
        return value

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return SOUGHT_TEXT


class StoredId(TypeDecorator[int]):
    """Number of a row. Compared with a number that no row can have, it equals nothing."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Check a value that is about to be stored. Raises ValueUnstorable."""
        if value is not None and not is_storable_id(value):
            raise ValueUnstorable(f"the number {value} cannot be stored: no id is larger than {LARGEST_ID}")
        return value

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return _SOUGHT_ID


class _SoughtText(TypeDecorator[str]):
    """Text that is looked for; one that cannot be stored becomes NULL, which equals nothing."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value if value is None or is_storable_text(value) else None


class _SoughtId(TypeDecorator[int]):
    """Number that is looked for; one that cannot be stored becomes NULL, which equals nothing."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return value if value is None or is_storable_id(value) else None


SOUGHT_TEXT = _SoughtText()
_SOUGHT_ID = _SoughtId()


def is_storable_text(text: str) -> bool:
    """Whether both engines can hold a text."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def is_storable_id(number: int) -> bool:
    """Whether both engines can hold a number as an id."""
    return SMALLEST_ID <= number <= LARGEST_ID
