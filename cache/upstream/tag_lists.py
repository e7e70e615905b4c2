"""Tag lists of any size: the names alone are read, a piece at a time; pure.

Google's registries send all tags of a repository in one piece, with members of their own for each: 6 MB have been seen.
Such a document has more values than may be parsed at once, so it is scanned for its list of tags. Each step is one call
of the regular expression engine, which holds the interpreter until it returns: none reads more than a few pieces, so
that another thread runs between two of them.
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

NAMES_LIMIT = 300_000
"""Entries of a tag list: large repositories have 50,000 tags. As many names take 53 MB in memory at most, as their text
has 32 MiB."""

AT_ONCE = 1024 * 1024
"""Bytes of a tag list that is parsed at once, which takes 30 ms where all of it is escapes; a larger one is scanned."""

PIECE_LIMIT = 64 * 1024
"""Characters of one text, and of what stands between two texts or brackets, in a tag list that is scanned."""

_SPACES = b" \t\n\r"
_SPACE = rb"[ \t\n\r]{0,%d}+" % PIECE_LIMIT
_CHARACTER = rb'(?:[^"\\\x00-\x1f]|\\.)'
_STRING = rb'"%b{0,%d}+"' % (_CHARACTER, PIECE_LIMIT)
_SHORT_STRINGS = re.compile(rb'(?:[^"\[\]{}]{0,100}+"%b{0,100}+"){1,500}+' % _CHARACTER, re.DOTALL)
_TO_TOKEN = re.compile(rb'([^"\[\]{}]{0,%d}+)(?:%b|([\[\]{}]))' % (PIECE_LIMIT, _STRING), re.DOTALL)
_KEY = b'"tags"'
_NAMES = re.compile(rb'(?:[ \t\n\r]{0,100}+"\w[\w.-]{0,127}"[ \t\n\r]{0,100}+,){1,1000}+')
_NAME = re.compile(rb'"([^"]++)"')
_ELEMENT = re.compile(_SPACE + rb"(" + _STRING + rb"|null)" + _SPACE + rb"([,\]])")
_NOTHING = re.compile(_SPACE + rb"\]")


def read_tags(raw: bytes) -> list[str]:
    """The tags that a document lists. Null, empty names and digests among them, as some registries list them, are left
    out, like all that no client could pull. Raises ValueError, whose text repeats nothing of the document."""
    if len(raw) > AT_ONCE:
        return _scanned(raw)
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
    _check_count(len(names))
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
    if sum(_count(raw, sign) for sign in (b"[", b"]", b"{", b"}")) > BRACKET_LIMIT or _count(raw, b",") > ENTRY_LIMIT:
        raise ValueError("it has too many values or nested levels")
    found: list[str] | None = None
    place, opened = 0, bytearray()
    while token := _next_token(raw, place):
        place, bracket = token.end(), token[2]
        if bracket is None:
            continue
        if bracket == b"[" and opened == b"}" and _follows_key(raw, token):
            if found is not None:
                raise ValueError("it has its tags twice")
            found, place = _elements(raw, place)
        elif bracket in b"[{":
            opened += b"]" if bracket == b"[" else b"}"
        elif not opened or opened.pop() != bracket[0]:
            raise ValueError("it is no JSON document")
        if not opened or len(opened) > DEPTH_LIMIT:
            break
    before, after = raw[:PIECE_LIMIT].lstrip(_SPACES), raw[place : place + PIECE_LIMIT].strip(_SPACES)
    if opened or after or len(raw) - place > PIECE_LIMIT or not before.startswith(b"{"):
        raise ValueError(f"it is no JSON document, or has a text or a gap of more than {PIECE_LIMIT} characters")
    return found or []


def _count(raw: bytes, sign: bytes) -> int:
    """Count the occurrences of a sign, piece by piece."""
    return sum(raw.count(sign, start, start + AT_ONCE) for start in range(0, len(raw), AT_ONCE))


def _next_token(raw: bytes, place: int) -> re.Match[bytes] | None:
    """The next bracket, or the next text before it after several short ones; None if none is within the limits."""
    if several := _SHORT_STRINGS.match(raw, place):
        place = several.end()
    return _TO_TOKEN.match(raw, place)


def _follows_key(raw: bytes, token: re.Match[bytes]) -> bool:
    """Whether the bracket of a token begins the value of `tags`."""
    key = token.start() - len(_KEY)
    if key < 0 or raw[key : token.start()] != _KEY or token[1].strip(_SPACES) != b":":
        return False
    return raw[max(0, key - PIECE_LIMIT) : key].rstrip(_SPACES)[-1:] in (b",", b"{")


def _check_count(count: int) -> None:
    """Raise ValueError for more entries than one list may have."""
    if count > NAMES_LIMIT:
        raise ValueError(f"it has more than {NAMES_LIMIT} tags")


def _elements(raw: bytes, place: int) -> tuple[list[str], int]:
    """The tags in a list that begins at a place, and the place after it. Raises ValueError."""
    if end := _NOTHING.match(raw, place):
        return [], end.end()
    found: list[str] = []
    left_out = 0
    while True:
        if several := _NAMES.match(raw, place):
            place = several.end()
            found += [name.decode() for name in _NAME.findall(several[0])]
        one = _ELEMENT.match(raw, place)
        if one is None:
            raise ValueError(f"a tag is no text, or has more than {PIECE_LIMIT} characters")
        name, place = _checked(json.loads(one[1])), one.end()
        if name:
            found.append(name)
        else:
            left_out += 1
        _check_count(len(found) + left_out)
        if one[2] == b"]":
            return found, place
