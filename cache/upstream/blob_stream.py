"""The body of one blob as it arrives from a registry, for a thread that fills a spool."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

from cache.upstream.egress import Response, blob_chunks
from cache.upstream.errors import Unavailable
from cache.upstream.kept_connections import COUNT, BodyCount
from cache.upstream.reach import UpstreamTimings

REPORT_EVERY = 4 * 1024 * 1024
"""Bytes between two reports of what has been received."""

KEEP_SIZE = 4 * 1024 * 1024
"""Bytes of a body up to which it is read through the library where that does not let itself be told what was read from
the socket, since it then closes the connection. Over a long distance a new one costs as much as such a body."""


class ResponseBlobStream:
    """The body of one response, read by one thread: one of known length from the socket itself."""

    def __init__(
        self,
        response: Response,
        start: int = 0,
        received: Callable[[int], None] = lambda size: None,
        progress_timeout: float = UpstreamTimings().progress,
        read: Callable[[Response], Iterator[bytes]] | None = None,
    ) -> None:
        """`start`: offset of the first byte within the blob. `received` is called with numbers of bytes, now and then
        and at the end. `progress_timeout`: seconds without a byte after which the stream fails."""
        self.start = start
        self.size = content_length(response)
        self._received = received
        self._progress_timeout = progress_timeout
        self._unreported = 0
        self.accepts_ranges = response.headers.get("accept-ranges", "").strip().lower() == "bytes"
        self._chunks = read(response) if read else blob_chunks(response, progress_timeout)
        self._leftover = b""
        self._remaining = self.size
        self._connection = _connection(response)
        self._count: BodyCount | None = response.extensions.get(COUNT)
        is_long = self.size is not None and self.size > KEEP_SIZE
        from_socket = is_long or (self._count is not None and self._count.is_at(self.size or 0))
        self._socket = _plaintext(response, self._connection) if from_socket else None
        self._started = False

    def receive_into(self, buffer: memoryview) -> int:
        """Fill some of the buffer; 0 at the end. Raises Unavailable when the stream breaks off or stalls.

        Most bytes come straight from the socket into the buffer, which is several times as fast as through the HTTP
        library; what that has read ahead is exactly its first chunk.
        """
        if self._leftover or not self._started or self._socket is None:
            return self._from_library(buffer)
        if not self._remaining:
            return 0
        count = self._from_socket(self._socket, buffer[: self._remaining])
        self._remaining -= count
        if self._count is not None:
            self._count.note_read(count)
            if not self._remaining:
                self._end()
        return self._report(count)

    def close(self) -> None:
        self._received(self._unreported)
        self._unreported = 0

    def _report(self, count: int) -> int:
        self._unreported += count
        if self._unreported >= REPORT_EVERY:
            self.close()
        return count

    def _from_socket(self, plaintext: socket.socket, buffer: memoryview) -> int:
        try:
            count = plaintext.recv_into(buffer)
        except TimeoutError as error:
            raise Unavailable(f"no byte arrived for {self._progress_timeout:.0f} s") from error
        except OSError as error:
            raise Unavailable(f"the connection failed ({error})") from error
        if not count:
            raise Unavailable(f"the connection ended {self._remaining} bytes early")
        if isinstance(plaintext, ssl.SSLSocket) and count < len(buffer):
            return self._more_records(plaintext, buffer, count)
        return count

    def _more_records(self, plaintext: ssl.SSLSocket, buffer: memoryview, count: int) -> int:
        """Add the records that have arrived already, since a read returns the 16 KiB of one; return the bytes in the
        buffer."""
        plaintext.settimeout(0)
        try:
            while count < len(buffer) and (more := plaintext.recv_into(buffer[count:])):
                count += more
        except OSError:  # nothing more is here; any other failure is met again by the next read
            pass
        finally:
            plaintext.settimeout(self._progress_timeout)
        return count

    def _end(self) -> None:
        """Have the library note the end, without which it closes the connection."""
        next(self._chunks, b"")

    def _from_library(self, buffer: memoryview) -> int:
        if not self._leftover:
            self._started = True
            self._leftover = next(self._chunks, b"")
            if not self._leftover:
                self._socket = None  # the library has ended the response, as after a 204 that states a length
        count = min(len(buffer), len(self._leftover))
        buffer[:count] = self._leftover[:count]
        self._leftover = self._leftover[count:]
        if self._remaining is not None:
            self._remaining -= count
        if not self._leftover and self._socket is not None and self._remaining:
            self._socket.settimeout(self._progress_timeout)
        elif not self._leftover and self._remaining == 0:
            self._end()
        return self._report(count)

    def abort(self) -> None:
        """Wake, from another thread, one that waits for bytes; it then sees the connection end."""
        if self._connection is not None:
            # Not the TLS object's own shutdown, which would leave ciphertext to be read as the body.
            with suppress(OSError):
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


def content_length(response: Response) -> int | None:
    value = response.headers.get("content-length", "")
    if "transfer-encoding" in response.headers or not (value.isascii() and value.isdigit() and len(value) < 19):
        return None
    return int(value)


def _connection(response: Response) -> socket.socket | None:
    stream = response.extensions.get("network_stream")
    found = stream.get_extra_info("socket") if stream is not None else None
    return found if isinstance(found, socket.socket) else None


def _plaintext(response: Response, connection: socket.socket | None) -> socket.socket | None:
    """The socket where the body itself can be read from it; None where its bytes are still encrypted.

    Beyond a proxy that speaks TLS itself, what the socket decrypts is the proxy's TLS and not the upstream's: then the
    library decrypts with another object than the socket does.
    """
    stream = response.extensions.get("network_stream")
    decrypting = stream.get_extra_info("ssl_object") if stream is not None else None
    return connection if decrypting is getattr(connection, "_sslobj", None) else None
