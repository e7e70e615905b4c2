"""ChunkedBody: decoder of chunked request bodies (RFC 9112, section 7.1), as strict as the reader of heads; pure.

Requests are smuggled past a reverse proxy if two readers end one body at different bytes. Line breaks other than CRLF,
spaces around a size, control characters and folded lines are therefore refused, and whatever is no content is bounded.
Extensions and trailers mean nothing to this server.
"""

import re
from enum import Enum

SIZE_DIGITS = 15
"""Hexadecimal digits of a size, which is then less than 2^60."""
SIZE_LINE_LIMIT = 256
EXTENSIONS_LIMIT = 4 * 1024
"""Bytes of all extensions of a body."""
SMALL_CHUNKS = 100
LEAST_AVERAGE = 64
"""Bytes of content per chunk, on average, in a body of more than SMALL_CHUNKS: one read of 64 KiB could bring ten
thousand chunks of one byte, and stop all other connections of the worker for 0.1 s."""
SMALL_IN_A_ROW = 250
"""Empty chunks that may follow one another: large chunks, which make up for small ones in the average of a body, do not
make up for those that come after them. One read of 512 KiB took 0.35 s of the event loop after 200 MiB in large chunks;
with at most 8,500 chunks it takes 30 ms."""
TRAILER_LIMIT = 8 * 1024
"""Bytes of all trailers of a body."""
TRAILER_LINES = 32

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EXTENSION = rb";%b(?:=(?:%b|\"(?:[ !#-\[\]-~]|\\[ -~])*\"))?" % (_TOKEN, _TOKEN)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})((?:%b)*)\r\n" % (SIZE_DIGITS, _EXTENSION))
_NEXT_CHUNK = re.compile(rb"\r\n([0-9A-Fa-f]{1,%d})\r\n" % SIZE_DIGITS)
"""The end of a chunk and the size of the next, if no extension follows it: the lines between nearly all chunks."""
_TRAILER = re.compile(rb"%b:[\t -~\x80-\xff]*\r\n" % _TOKEN)


_UNENDED = "a chunk does not end with CRLF where its size says so"


class ChunksRefused(Exception):
    """The body is not accepted; the end of its request is unknown."""


class _Line(Enum):
    """The line that follows, with its maximum of bytes."""

    SIZE = SIZE_LINE_LIMIT
    CHUNK_END = 2
    TRAILER = TRAILER_LIMIT


class ChunkedBody:
    """Decoder of one body, which may arrive in pieces of any size. `complete` once its last byte was decoded."""

    __slots__ = (
        "_awaited",
        "_count",
        "_extensions",
        "_left",
        "_line",
        "_refused",
        "_repeated",
        "_repeated_size",
        "_shortage",
        "_size",
        "_trailer_lines",
        "_trailers",
        "complete",
    )

    def __init__(self) -> None:
        self.complete = False
        self._refused = False
        self._left = 0
        self._line = b""
        self._repeated = b""
        """The lines before an earlier chunk, plain ones before no small one: mostly those before the next one, too."""
        self._repeated_size = 0
        self._awaited = _Line.SIZE
        self._count = 0
        self._size = 0
        self._shortage = 0
        """Bytes that the chunks since the last large one lack of LEAST_AVERAGE each."""
        self._extensions = 0
        self._trailers = 0
        self._trailer_lines = 0

    @property
    def average(self) -> int:
        """Bytes of content per chunk so far."""
        return self._size // self._count if self._count else 0

    def decode(self, data: bytes | bytearray, start: int = 0, stop: int | None = None) -> tuple[list[slice], int]:
        """Return the parts of the next piece that are content, and the offset behind what belongs to the body.

        The piece is the part of `data` from `start` to `stop`. Raises ChunksRefused, and again for whatever follows.
        """
        if self._refused:
            raise ChunksRefused("bytes after refused chunks")
        stop = len(data) if stop is None else stop
        content: list[slice] = []
        at = start
        try:
            while at < stop and not self.complete:
                if self._left:
                    end = min(at + self._left, stop)
                    content.append(slice(at, end))
                    self._left -= end - at
                elif self._awaited is _Line.CHUNK_END and not self._line and (end := self._skip_lines(data, at, stop)):
                    pass
                else:
                    end = self._add_to_line(data, at, stop)
                at = end
        except ChunksRefused:
            self._refused = True
            raise
        return content, at

    def _skip_lines(self, data: bytes | bytearray, at: int, stop: int) -> int:
        """Read both lines between two chunks at once, in a third of the time, if they are plain and complete; return
        the offset behind them, else 0."""
        end = at + len(self._repeated)
        if self._repeated and end <= stop and data.startswith(self._repeated, at):
            size = self._left = self._repeated_size  # large enough to keep every bound
            self._count += 1
            self._size += size
            self._shortage = max(0, self._shortage + LEAST_AVERAGE - size)
            return end
        found = _NEXT_CHUNK.match(data, at, stop)
        if found is None:
            return 0
        size = int(found[1], 16)
        self._begin_chunk(size)
        self._repeated, self._repeated_size = (found[0], size) if size >= LEAST_AVERAGE else (b"", 0)
        return found.end()

    def _add_to_line(self, data: bytes | bytearray, at: int, stop: int) -> int:
        """Continue a line, and read it if that is its end; return the offset behind what was used."""
        limit = self._awaited.value - len(self._line)
        end = data.find(b"\n", at, min(at + limit, stop)) + 1
        if end:
            line, self._line = self._line + data[at:end], b""
            self._read_line(line)
            return end
        if stop - at >= limit:
            raise ChunksRefused("a line without an end")
        self._line += data[at:stop]
        if self._awaited is _Line.CHUNK_END and not b"\r\n".startswith(self._line):
            raise ChunksRefused(_UNENDED)
        return stop

    def _read_line(self, line: bytes) -> None:
        if self._awaited is _Line.SIZE:
            self._read_size(line)
        elif self._awaited is _Line.TRAILER:
            self._read_trailer(line)
        elif line == b"\r\n":
            self._awaited = _Line.SIZE
        else:
            raise ChunksRefused(_UNENDED)

    def _read_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ChunksRefused("malformed size of a chunk")
        self._extensions += len(match[2])
        if self._extensions > EXTENSIONS_LIMIT:
            raise ChunksRefused(f"extensions of more than {EXTENSIONS_LIMIT} bytes")
        self._begin_chunk(int(match[1], 16))

    def _begin_chunk(self, size: int) -> None:
        self._left = size
        self._count += 1
        self._size += self._left
        if self._left and self._count > SMALL_CHUNKS and self._size < self._count * LEAST_AVERAGE:
            raise ChunksRefused(f"more than {SMALL_CHUNKS} chunks of fewer than {LEAST_AVERAGE} bytes on average")
        self._shortage = max(0, self._shortage + LEAST_AVERAGE - size)
        if self._shortage > SMALL_IN_A_ROW * LEAST_AVERAGE:
            raise ChunksRefused(f"chunks in a row that lack {self._shortage} bytes of {LEAST_AVERAGE} each")
        self._awaited = _Line.CHUNK_END if self._left else _Line.TRAILER

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.complete = True
            return
        self._trailers += len(line)
        self._trailer_lines += 1
        if self._trailers > TRAILER_LIMIT or self._trailer_lines > TRAILER_LINES:
            raise ChunksRefused(f"trailers of more than {TRAILER_LIMIT} bytes or {TRAILER_LINES} lines")
        if not _TRAILER.fullmatch(line):
            raise ChunksRefused("malformed trailer")
