"""StrictConnection: an h11 connection that refuses ambiguous heads and chunks.

It needs h11's public interface alone, except one method, without which a refused body ends the connection unanswered.
"""

from functools import lru_cache

import h11

from gateway.server.chunked_body import ChunkedBody, ChunksRefused
from gateway.server.request_head import HeadRefused, find_head_end, parse_whole_head

_END = h11.EndOfMessage()


class StrictConnection(h11.Connection):
    """The server's side of one connection. Each request head, and each chunk, is checked before h11 parses it."""

    def __init__(self, head_limit: int) -> None:
        """`head_limit`: maximum bytes of an incomplete head."""
        super().__init__(h11.SERVER, max_incomplete_event_size=head_limit)
        self._chunks: ChunkedBody | None = None
        self.refusal: str | None = None
        """Why a head or a chunk was refused; None also where h11 refused it."""

    @property
    def chunks(self) -> ChunkedBody | None:
        """The decoder of a chunked body that has not ended; None also for a body with a length."""
        return self._chunks

    def receive_data(self, data: bytes) -> None:
        super().receive_data(data)
        if self._chunks is None:
            return
        try:
            self._chunks.decode(data)
        except ChunksRefused as refusal:
            self.refusal = str(refusal)
            self._process_error(self.their_role)  # the next event is an error then
            self._chunks = None
        else:
            self._chunks = None if self._chunks.complete else self._chunks

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Parse the next event. Raises RemoteProtocolError, for a refused head with the response's status."""
        if self.their_state is h11.IDLE:
            data, _ = self.trailing_data
            end = find_head_end(data)
            if end is not None:
                try:
                    *_, is_chunked = parse_whole_head(data, end)
                    if is_chunked:
                        self._expect_chunks(data[end:])
                except HeadRefused as refusal:
                    self.refusal = str(refusal)
                    raise h11.RemoteProtocolError(str(refusal), error_status_hint=refusal.status) from refusal
        return super().next_event()

    def _expect_chunks(self, received: bytes) -> None:
        """Check the chunks that follow a head, beginning with those that came with it. Raises HeadRefused."""
        chunks = ChunkedBody()
        try:
            chunks.decode(received)
        except ChunksRefused as refusal:
            raise HeadRefused(str(refusal)) from refusal
        self._chunks = None if chunks.complete else chunks

    def headers_of(self, request: h11.Request) -> list[tuple[bytes, bytes]]:
        """The headers of a request, with their names in lower case."""
        return list(request.headers)

    def note_response(self, status: int, *, last: bool) -> bool | None:
        """Record a complete response that the caller sends itself; whether the connection ends with it.

        None if the client has broken off its request, so that nothing may be sent. `last`: the connection ends even if
        the client would keep it. Raises LocalProtocolError if no response is due.
        """
        try:
            head = self.send(_response_without_body(status, last))
            self.send(_END)
        except h11.LocalProtocolError:
            if self.their_state is not h11.ERROR:
                raise
            return None
        return b"connection: close\r\n" in head.lower()


@lru_cache(1000)
def _response_without_body(status: int, last: bool) -> h11.Response:
    """Make a response that stands for any other of this status: h11 only follows its state."""
    ending = [(b"connection", b"close")] if last else []
    return h11.Response(status_code=status, headers=[(b"content-length", b"0"), *ending])
