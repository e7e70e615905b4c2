"""Documents of other registries: JSON that is parsed strictly, and never for long.

The parser holds the interpreter until it returns, in a thread too. What it costs depends on the number of values more
than on the bytes: of 4 MiB, text takes 15 ms, brackets took a second. So characters that begin a value are counted
first, which takes 1 ms: within the limits the parser holds the interpreter for 70 ms at most. Numbers and objects are
made by functions of Python, between which the interpreter can be given to another thread.
"""

import json
from math import isfinite
from typing import Any

ELEMENT_LIMIT = 250_000
"""Commas in a document: 100,000 texts take 5 ms, as many numbers 17 ms. Tag lists of large repositories have 50,000."""

STRUCTURE_LIMIT = 200_000
"""Brackets, braces and colons: as many members of one object take 70 ms, as many lists 45 ms. The descriptors that fit
into 4 MiB have 190,000."""

DEPTH_LIMIT = 64
_DIGITS, _FRACTION_DIGITS = 20, 32
"""Characters of an integer, which is below 2^63, and of another number; converting 4,300 digits takes 80 us."""

OFF_LOOP_BYTES = 64 * 1024
"""Size from which on a document is parsed and hashed outside the event loop."""


class TooManyValues(ValueError):
    """The document has more values than may be parsed at once."""


def parse_document(raw: bytes, depth: int = DEPTH_LIMIT) -> Any:
    """Parse UTF-8 without a byte order mark only (RFC 8259, section 8.1): json would guess UTF-16 and UTF-32.

    Raises ValueError, whose text repeats nothing of the document, also for duplicate keys, of which two readers may use
    different ones, and for a document beyond the limits. `depth`: levels that it may have.
    """
    if raw.count(b",") > ELEMENT_LIMIT or sum(map(raw.count, (b"[", b"{", b":"))) > STRUCTURE_LIMIT:
        raise TooManyValues("the document has too many values or nested levels")
    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_no_number,
        )
    except RecursionError as error:
        raise ValueError("the document is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("not a JSON document: it is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"not a JSON document: {error}") from error
    if _depth(document) > depth:
        raise ValueError(f"the document is nested more than {depth} deep")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an object has the same key twice")
    return document


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("an integer has too many digits")
    return int(text)


def _fraction(text: str) -> float:
    if len(text) > _FRACTION_DIGITS:
        raise ValueError("a number has too many digits")
    number = float(text)
    if not isfinite(number):  # what is made of it would be no JSON: Infinity
        raise ValueError("a number is too large")
    return number


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _depth(document: Any) -> int:
    """Number of levels; 1 for a value without members."""
    depth, level = 0, [document]
    while level:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return depth
