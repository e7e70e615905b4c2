"""Bodies as handlers read them."""

from starlette.requests import Request
from starlette.types import Message

from gateway.http.bodies import pieces, read_whole
from gateway.server.large_body import EXTENSION


class Reusing:
    """A server whose pieces lie in one buffer, which it overwrites as soon as the next is requested."""

    def __init__(self, *contents: bytes) -> None:
        self._contents = list(contents)
        self._buffer = bytearray(max(map(len, contents)))
        self.offer: dict[str, bool] = {}

    @property
    def request(self) -> Request:
        scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")], "extensions": {EXTENSION: self.offer}}
        return Request(scope, self.receive)

    async def receive(self) -> Message:
        self._buffer[:] = bytes(len(self._buffer))
        if not self._contents:
            return {"type": "http.request", "body": b"", "more_body": False}
        content = self._contents.pop(0)
        self._buffer[: len(content)] = content
        return {"type": "http.request", "body": memoryview(self._buffer)[: len(content)], "more_body": True}


async def test_pieces_accept_buffers_that_are_used_again() -> None:
    server = Reusing(b"first", b"the second")
    assert [bytes(piece) async for piece in pieces(server.request)] == [b"first", b"the second"]
    assert server.offer == {"accepted": True}


async def test_a_body_is_read_whole_from_buffers_that_are_used_again() -> None:
    assert await read_whole(Reusing(b"first", b"the second").request, 100, "it") == b"firstthe second"
