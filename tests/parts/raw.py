"""Raw HTTP/1.1 client: one connection per request, and an exact judgement whether a body arrived complete."""

import contextlib
import hashlib
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

READ = 256 * 1024
Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class BrokenHead(Exception):
    """The connection ended, or carried something else, before a whole response head arrived.

    `port` is the client's end of it.
    """

    port = 0


@dataclass(frozen=True)
class RawHeaders:
    """Response headers in order of arrival; names are case-insensitive."""

    lines: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Value of a header; repeated lines are joined by a comma; None if it is absent."""
        found = self.all(name)
        return ", ".join(found) if found else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None


@dataclass(frozen=True)
class RawResponse:
    """A response as far as it arrived.

    `complete`: the framing says that it is complete (a close-delimited body never is). `reset`: it ended by an error.
    """

    status: int
    headers: RawHeaders
    body: bytes
    complete: bool
    reset: bool
    seconds: float

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.body).hexdigest()


class RawStream:
    """A response whose head has been read and whose body the test reads at its own pace."""

    def __init__(self, connection: socket.socket, method: str, begun: float) -> None:
        self._connection = connection
        self._begun = begun
        self._buffer = bytearray()
        self._ended = False
        self.complete = False
        self.reset = False
        self.received = 0
        self.first_byte_after: float | None = None
        self.status, self.headers = self._head()
        coding = (self.headers.get("transfer-encoding") or "").lower()
        length = self.headers.get("content-length")
        bodiless = method == "HEAD" or self.status in (204, 304)
        if bodiless:
            self._left: int | None = 0
        else:
            self._left = int(length) if length is not None and "chunked" not in coding else None
        self._body = self._chunks() if "chunked" in coding and not bodiless else self._plain()
        self._pending = b""

    def read(self, size: int) -> bytes:
        """Reads exactly `size` body bytes; fewer only if the body ended."""
        parts = [self._pending]
        count = len(self._pending)
        while count < size:
            part = next(self._body, b"")
            if not part:
                break
            parts.append(part)
            count += len(part)
        whole = b"".join(parts)
        self._pending = whole[size:]
        return whole[:size]

    def read_all(self) -> bytes:
        """Reads the rest of the body, however it ended."""
        rest = b"".join([self._pending, *self._body])
        self._pending = b""
        return rest

    def drain(self) -> str:
        """Reads and discards the rest; returns its sha256 digest (without bytes that were read before)."""
        hasher = hashlib.sha256(self._pending)
        for part in self._body:
            hasher.update(part)
        self._pending = b""
        return "sha256:" + hasher.hexdigest()

    def same_as(self, expected: bytes, start: int = 0, stop: int | None = None) -> bool:
        """Reads and discards the rest; whether each received byte equals that of `expected` at its offset between
        `start` and `stop`."""
        same, view = expected.startswith(self._pending, start), memoryview(bytearray(READ))
        position, self._pending = start + len(self._pending), b""
        while self._left and not self._ended:  # a promised length needs no copies
            if self._buffer:
                part = memoryview(self._take(self._left))
                self._left -= len(part)
            else:
                part = view[: self._receive_into(view[: min(READ, self._left)])]
            same = same and expected.startswith(part, position)
            position += len(part)
        for part in self._body:
            same = same and expected.startswith(part, position)
            position += len(part)
        return same and position <= (len(expected) if stop is None else stop)

    @property
    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Addresses of the client and of the server."""
        return self._connection.getsockname(), self._connection.getpeername()

    def idle(self, seconds: float) -> bool:
        """Whether no byte of the body arrives for `seconds`."""
        return not self._pending and not select.select([self._connection], [], [], seconds)[0]

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        """Closes the connection by RST, as a killed client does."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._connection.close()

    def __enter__(self) -> "RawStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> bool:
        """Receives more bytes from the connection; False if there will be none."""
        if self._ended:
            return False
        try:
            part = self._connection.recv(READ)
        except TimeoutError:
            raise
        except OSError:  # reset, or TLS ended without close_notify
            part, self.reset = b"", True
        self._buffer += part
        self._ended = not part
        return bool(part)

    def _receive_into(self, view: memoryview) -> int:
        """Receives body bytes directly into a buffer, if none are buffered and a length was promised."""
        try:
            count = self._connection.recv_into(view)
        except TimeoutError:
            raise
        except OSError:
            count, self.reset = 0, True
        self._ended = count == 0
        self.received += count
        if self._left is not None:
            self._left -= count
        if count and self.first_byte_after is None:
            self.first_byte_after = time.monotonic() - self._begun
        return count

    def _line(self) -> bytes | None:
        """The next line without its end, or None if the connection ended before it was complete."""
        while b"\r\n" not in self._buffer:
            if not self._fill():
                return None
        line, _, _ = self._buffer.partition(b"\r\n")
        del self._buffer[: len(line) + 2]
        return bytes(line)

    def _head(self) -> tuple[int, RawHeaders]:
        while True:
            first = self._line()
            if first is None or not first.startswith(b"HTTP/1."):
                raise BrokenHead(repr(bytes(self._buffer[:200]) if first is None else first[:200]))
            lines = []
            while line := self._line():
                name, _, value = line.decode("latin-1").partition(":")
                lines.append((name.strip(), value.strip()))
            if line is None:
                raise BrokenHead(repr(first))
            status = int(first.split()[1])
            if status >= 200:
                return status, RawHeaders(tuple(lines))

    def _take(self, limit: int | None) -> bytes:
        """Some body bytes, at most `limit`; empty if the connection ended."""
        if not self._buffer and not self._fill():
            return b""
        if self.first_byte_after is None:
            self.first_byte_after = time.monotonic() - self._begun
        part = bytes(self._buffer[:limit])
        del self._buffer[: len(part)]
        self.received += len(part)
        return part

    def _plain(self) -> Iterator[bytes]:
        while self._left is None or self._left > 0:
            part = self._take(self._left)
            if not part:
                return
            if self._left is not None:
                self._left -= len(part)
            yield part
        self.complete = True

    def _chunks(self) -> Iterator[bytes]:
        while (line := self._line()) is not None:
            left = int(line.partition(b";")[0], 16)
            if left == 0:
                while line := self._line():
                    pass
                self.complete = line == b""
                return
            while left > 0:
                part = self._take(left)
                if not part:
                    return
                left -= len(part)
                yield part
            if self._line() != b"":
                return


def open_stream(
    method: str,
    url: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    context: ssl.SSLContext | None = None,
    timeout: float = 30,
) -> RawStream:
    """Sends a request and reads the response's head; the caller reads the body and closes.

    Repeated header lines are given as pairs. Raises BrokenHead, and TimeoutError if nothing arrived for `timeout` s.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    names = {name.lower() for name, _ in given}
    defaults = [("Host", address.netloc), ("Connection", "close")]
    if body and "transfer-encoding" not in names:
        defaults.append(("Content-Length", str(len(body))))
    lines = [(name, value) for name, value in defaults if name.lower() not in names] + given
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    begun = time.monotonic()
    connection = socket.create_connection((host, port), timeout=timeout)
    try:
        if address.scheme == "https":
            connection = (context or ssl.create_default_context()).wrap_socket(connection, server_hostname=host)
        with contextlib.suppress(ConnectionError):  # the server may respond and close before it has read everything
            connection.sendall(head.encode("latin-1") + body)
        return RawStream(connection, method, begun)
    except BrokenHead as error:
        error.port = connection.getsockname()[1]
        connection.close()
        raise
    except BaseException:
        connection.close()
        raise


def request(
    method: str,
    url: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    context: ssl.SSLContext | None = None,
    timeout: float = 30,
) -> RawResponse:
    """Sends one request on a new connection, and reads the response to its end."""
    begun = time.monotonic()
    with open_stream(method, url, headers, body, context=context, timeout=timeout) as stream:
        content = stream.read_all()
        seconds = time.monotonic() - begun
        return RawResponse(stream.status, stream.headers, content, stream.complete, stream.reset, seconds)


def get(url: str, headers: Headers = (), *, context: ssl.SSLContext | None = None, timeout: float = 30) -> RawResponse:
    return request("GET", url, headers, context=context, timeout=timeout)


def head(url: str, headers: Headers = (), *, context: ssl.SSLContext | None = None, timeout: float = 30) -> RawResponse:
    return request("HEAD", url, headers, context=context, timeout=timeout)
