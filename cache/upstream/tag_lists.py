"""Tag lists of any size: the names alone are read, a piece at a time; pure.

Google's registries send all tags of a repository in one piece, with members of their own for each: 6 MB have been seen.
Such a document has more values than may be parsed at once, so it is scanned for its list of tags. Each step is one call
of the regular expression engine and short, and the interpreter can be given to another thread between two of them.
"""

import json
import re

from cache.oci.document import DEPTH_LIMIT, TooManyValues, parse_document
from cache.oci.names import is_tag

TAG_LIST_LIMIT = 32 * 1024 * 1024
"""Bytes of a tag list that are read."""

BRACKET_LIMIT = 2_000_000
"""Brackets and braces in a tag list that is scanned: 1 us each."""

ENTRY_LIMIT = 4_000_000
"""Commas in a tag list that is scanned: 32 MiB have fewer, if tags have eight characters."""

_STRING = rb'"(?:[^"\\\x00-\x1f]|\\.)*+"'
_TO_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL)
_KEY = re.compile(rb'(?:^|,)\s*"tags"\s*:\s*\Z')
_NAMES = re.compile(rb'(?:\s*+"\w[\w.-]{0,127}"\s*+,){1,1000}+')
_NAME = re.compile(rb'"([^"]++)"')
_ELEMENT = re.compile(rb"\s*+(" + _STRING + rb"|null)\s*+([,\]])")
_NOTHING = re.compile(rb"\s*+\]")


def read_tags(raw: bytes) -> list[str]:
    """The tags that a document lists. Null, empty names and digests among them, as some registries list them, are left
    out, like all that no client could pull. Raises ValueError, whose text repeats nothing of the document."""
    try:
        document = parse_document(raw)
    except TooManyValues:
        return _scanned(raw)
    if not isinstance(document, dict):
        raise ValueError("it is no object")
    names = document.get("tags")
    if names is None:
        return []
    if not isinstance(names, list):
        raise ValueError("its tags are no list")
    return [name for name in map(_checked, names) if name]


def _checked(name: object) -> str | None:
    """An entry of the list if it is a tag. Raises ValueError for what is no text."""
    if name is None:
        return None
    if not isinstance(name, str) or not name.isascii():
        raise ValueError("a tag is no text")
    return name if is_tag(name) else None


def _scanned(raw: bytes) -> list[str]:
    """The tags in a document of many values, whose other members are skipped."""
    if sum(map(raw.count, (b"[", b"]", b"{", b"}"))) > BRACKET_LIMIT or raw.count(b",") > ENTRY_LIMIT:
        raise ValueError("it has too many values or nested levels")
    found: list[str] | None = None
    place, opened = 0, bytearray()
    while match := _TO_BRACKET.match(raw, place):
        bracket, place = match[1], match.end()
        if bracket == b"[" and opened == b"}" and _KEY.search(raw[match.start() : match.start(1)]):
            if found is not None:
                raise ValueError("it has its tags twice")
            found, place = _elements(raw, place)
        elif bracket in b"[{":
            opened += b"]" if bracket == b"[" else b"}"
        elif not opened or opened.pop() != bracket[0]:
            raise ValueError("it is no JSON document")
        if not opened or len(opened) > DEPTH_LIMIT:
            break
    if opened or raw[place:].strip() or not raw.lstrip().startswith(b"{"):
        raise ValueError("it is no JSON document")
    return found or []


def _elements(raw: bytes, place: int) -> tuple[list[str], int]:
    """The tags in a list that begins at a place, and the place after it. Raises ValueError."""
    if end := _NOTHING.match(raw, place):
        return [], end.end()
    found: list[str] = []
    while True:
        if several := _NAMES.match(raw, place):
            place = several.end()
            found += [name.decode() for name in _NAME.findall(several[0])]
        one = _ELEMENT.match(raw, place)
        if one is None:
            raise ValueError("a tag is no text")
        name, place = _checked(json.loads(one[1])), one.end()
        found += [name] if name else []
        if one[2] == b"]":
            return found, place
