"""Documents: large bodies that several responses send at the same time, in one buffer for all of them.

Each response makes or reads a document of its own, and a client that receives slowly would keep it in memory.
"""

from weakref import WeakValueDictionary

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SHARED_FROM = 64 * 1024
"""Bytes from which a document is shared; most are smaller, and are sent at once."""


class Document:
    """The body of a response; it must be kept as long as the body is sent."""

    __slots__ = ("__weakref__", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body


class Documents:
    """The large documents that are being sent."""

    def __init__(self) -> None:
        self._sent: WeakValueDictionary[int, Document] = WeakValueDictionary()

    @property
    def count(self) -> int:
        return len(self._sent)

    def share(self, body: bytes) -> Document:
        """Return a document with this body: one that is being sent if there is one."""
        if len(body) < SHARED_FROM:
            return Document(body)
        key = hash(body)
        sent = self._sent.get(key)
        if sent is None or sent.body != body:
            sent = self._sent[key] = Document(body)
        return sent


class DocumentResponse:
    """A response with status 200 and a document."""

    def __init__(self, document: Document, media_type: str, headers: dict[str, str]) -> None:
        self._document = document  # is shared as long as it is kept
        self._response = Response(document.body, 200, headers, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope, receive, send)
