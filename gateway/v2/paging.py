"""Links from one page of tags to the next: the place in the upstream's list travels in our own `last`.

A place that the specification can express is a tag. Any other is sealed for one image of one group, so that a client
can neither read the upstream's query nor write one: it is sent to the upstream as it came from there.
"""

import json
from urllib.parse import parse_qsl

from cache.oci.errors import DigestInvalid, PageInvalid, StoreUnavailable, TagInvalid
from cache.oci.names import parse_reference
from cache.upstream.lists import PAGE_SIZE
from cache.values import BEGINNING, PageStart
from gateway.keys.sealing import SealBroken, Sealer

SEALED = "~"
"""First character of a sealed place; no tag and no digest begins with it."""


def page_size(text: str | None) -> int | None:
    """The parameter `n` of a list, at most PAGE_SIZE; None where it is absent. Raises PageInvalid."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise PageInvalid(f"n must be a number, not {text[:50]!r}")
    return min(int(text), PAGE_SIZE)


class PageLinks:
    """Writes and reads the parameter `last` of links. The key is read from a file, so both block: for a thread."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def write(self, start: PageStart, image: str) -> str:
        """The parameter for the page that begins there. `image`: whose list it is; only for it the text can be read.

        Raises StoreUnavailable if there is no key.
        """
        if _is_plain(start):
            return start.after
        place = json.dumps([start.query, start.after, start.skip])
        try:
            return SEALED + self._sealer.seal(place, _context(image))
        except SealBroken as error:
            raise StoreUnavailable("there are more tags, but no key to seal the link to them") from error

    def read(self, text: str | None, image: str) -> PageStart:
        """The place that a parameter names; the beginning without one. Raises TagInvalid, DigestInvalid."""
        if text is None:
            return BEGINNING
        if not text.startswith(SEALED):
            return PageStart(None, str(parse_reference(text)))
        try:
            query, after, skip = json.loads(self._sealer.open(text.removeprefix(SEALED), _context(image)))
        except SealBroken as error:
            reason = "`last` is no page of this list: begin anew, and follow the Link of each page as it is"
            raise TagInvalid(reason) from error
        return PageStart(query, after, skip)


def _is_plain(start: PageStart) -> bool:
    """Whether the specification's own parameters request the same page."""
    parameters = dict(parse_qsl(start.query or "", keep_blank_values=True))
    if (
        start.skip
        or (start.query is not None and parameters.get("last") != start.after)
        or parameters.keys() - {"n", "last"}
    ):
        return False
    try:
        parse_reference(start.after)
    except (TagInvalid, DigestInvalid):
        return False
    return True


def _context(image: str) -> str:
    return f"page of the tags of {image}"
