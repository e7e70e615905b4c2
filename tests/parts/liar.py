"""Liar: a registry that speaks raw HTTP/1.1 from a script, so that it can break every promise of HTTP.

Without a lie it is an honest upstream without authentication. Without content it is a canary: a listener that must not
receive connections.
"""

import array
import contextlib
import fcntl
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import unquote

from .cdn import RANGE, bounds
from .certs import Authority
from .images import ImageLayout, digest_of
from .lies import Framing, Lie
from .ports import HOST, free_port, listen
from .records import Record, RequestLog

MANIFEST_PATH = re.compile(r"/v2/(.+)/manifests/([^/]+)")
BLOB_PATH = re.compile(r"/v2/(.+)/blobs/([^/]+)")
TAGS_PATH = re.compile(r"/v2/(.+)/tags/list")
LONGEST_HEAD = 65_536
STEP = 256 * 1024
SIOCOUTQ = 0x5411  # bytes in the socket's send queue, see tcp(7)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Script:
    path_contains: str
    method: str | None
    lie: Lie


class Liar:
    """One listener, one thread per connection, connections kept alive. Blobs and manifests are served under any name.

    `requests` (a RequestLog, server "liar") and `connections` record what arrived, `open_connections` counts those that
    are open, `surplus_arrived` is set once a late surplus is with the client's system.
    """

    def __init__(self, authority: Authority | None = None) -> None:
        self.port = free_port()
        self.requests = RequestLog()
        self.connections = 0
        self.surplus_arrived = threading.Event()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}  # by digest and by tag: media type, bytes
        self._tls = authority
        self._context = authority.server_context() if authority else None
        self._scripts: list[Script] = []
        self._told: dict[int, int] = {}
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    @property
    def netloc(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.netloc}"

    def settings(self, **more: object) -> dict[str, object]:
        """Settings of the server under test for an upstream that is this liar."""
        trusted = {"ca_file": str(self._tls.ca_file)} if self._tls else {}
        return {"url": self.url, "private_addresses": True} | trusted | more

    def offer(self, layout: ImageLayout, tag: str = "latest") -> ImageLayout:
        """Serves an image: its top manifest as `tag`, everything by digest."""
        for digest, file in layout.blobs.items():
            if digest in layout.manifests:
                self.manifests[digest] = (layout.manifests[digest], file.read_bytes())
            else:
                self.blobs[digest] = file.read_bytes()
        self.manifests[tag] = self.manifests[layout.digest]
        return layout

    def offer_blob(self, content: bytes) -> str:
        """Serves a blob; returns its digest."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def offer_manifest(self, tag: str, media_type: str, content: bytes) -> str:
        """Serves a manifest by tag and digest, whatever its bytes are; returns its digest."""
        digest = digest_of(content)
        self.manifests[tag] = self.manifests[digest] = (media_type, content)
        return digest

    def behave(self, path_contains: str, lie: Lie, method: str | None = None) -> Lie:
        """Lies to later requests whose path contains the text; the latest matching script applies."""
        with self._lock:
            self._scripts.insert(0, Script(path_contains, method, lie))
        return lie

    def honest(self) -> None:
        """Removes every lie and releases every hold."""
        with self._lock:
            scripts, self._scripts = self._scripts, []
            self._told.clear()
        for script in scripts:
            for hold in (script.lie.hold, script.lie.late, script.lie.closing):
                if hold is not None:
                    hold.release()

    def start(self) -> None:
        self._listener = listen(self.port)
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Closes the port and every connection; `start` opens the same port again."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self.honest()
        close(listener)
        with self._lock:
            connections, threads = list(self._open), list(self._threads)
            self._threads.clear()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)

    def __enter__(self) -> "Liar":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Connections.

    def _spawn(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(connection,), name=f"liar-{self.port}", daemon=True)
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                number = self.connections
            self._spawn(partial(self._converse, number), connection)

    def _converse(self, number: int, plain: socket.socket) -> None:
        connection = plain
        first = True
        try:
            plain.settimeout(60)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._context.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._open = (self._open - {plain}) | {connection}
            while (record := self._read(connection)) is not None:
                record.connection = number
                if not self._reply(connection, record, first=first):
                    return
                first = False
        except (OSError, ValueError):  # the client left, or does not speak HTTP
            pass
        finally:
            with self._lock:
                self._open -= {plain, connection}
            close(connection)

    def _read(self, connection: socket.socket) -> Record | None:
        """Reads the next request and discards its body; None if the client has closed."""
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(4096)
            if not received or len(head) > LONGEST_HEAD:
                return None
            head += received
            if not head[:1].isalpha():  # TLS on the plain port: clients try that first and wait for a refusal
                return None
        head, _, rest = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        path, _, query = target.partition("?")
        record = self.requests.add("liar", method, path, query, headers)
        left = int(record.header("content-length") or 0) - len(rest)
        while left > 0:
            left -= len(connection.recv(65_536)) or left
        return record

    # Responses.

    def _reply(self, connection: socket.socket, record: Record, *, first: bool) -> bool:
        """Responds to one request, the first of its connection or a later one; whether the connection stays open."""
        lie = self._lie_for(record, first=first)
        if lie.silent:
            connection.sendall(lie.surplus)
            if lie.reset is not None:
                break_off(connection)
            return False
        return self._deliver(connection, record, lie, self._honest_answer(record, ranged=not lie.whole))

    def _deliver(self, connection: socket.socket, record: Record, lie: Lie, honest: Answer) -> bool:
        """Sends a response as the lie changes it; whether the connection stays open."""
        body = lie.body_of(honest.body)
        record.status = honest.status if lie.status is None else lie.status
        headers = self._headers(lie, honest, body)
        head = f"HTTP/1.1 {record.status} {reason(record.status)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if lie.delay:
            time.sleep(lie.delay)
        if lie.hold is not None and lie.hold.after < 0:
            lie.hold.wait()
        start = head.encode("latin-1") + b"\r\n"
        start = start.replace(b"\r\n", b"\n") if lie.bare else start
        if record.method == "HEAD" or record.status in (204, 304):
            connection.sendall(start + (b"" if lie.late else lie.surplus))
            stays = lie.framing is not Framing.CLOSE
        elif lie.surplus and lie.framing is Framing.LENGTH and not lie.late and len(body) < STEP:
            connection.sendall(start + body + lie.surplus)  # in one segment
            stays = True
        else:
            connection.sendall(start)
            stays = self._send_body(connection, record, lie, body)
        if lie.late is not None:
            lie.late.wait()
            connection.sendall(lie.surplus)
            await_receipt(connection)
            self.surplus_arrived.set()
        if lie.closing is not None:
            lie.closing.wait()
            return False
        return stays

    def _send_body(self, connection: socket.socket, record: Record, lie: Lie, body: bytes) -> bool:
        end = next((offset for offset in (lie.cut, lie.reset) if offset is not None), len(body))
        chunks = lie.framing in (Framing.CHUNKED, Framing.UNFINISHED)
        for piece in pieces(range(len(body))[:end], lie):
            content = body[piece.start : piece.stop]
            connection.sendall(b"%x\r\n%b\r\n" % (len(content), content) if chunks else content)
            record.sent += len(content)
        if lie.reset is not None:
            break_off(connection)
        if lie.cut is not None or lie.reset is not None or lie.framing is Framing.UNFINISHED:
            return False
        if lie.framing is Framing.CHUNKED:
            connection.sendall(b"0\r\n\r\n")
        if lie.surplus and lie.late is None:
            connection.sendall(lie.surplus)
        if lie.framing is Framing.CLOSE and isinstance(connection, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                connection.unwrap()  # a regular end of a close-delimited body, RFC 9112, 9.8
        return lie.framing is not Framing.CLOSE

    def _lie_for(self, record: Record, *, first: bool) -> Lie:
        with self._lock:
            for script in self._scripts:
                told = self._told.get(id(script), 0)
                fits = script.path_contains in unquote(record.path) and script.method in (None, record.method)
                fits = fits and not (script.lie.later and first)
                if fits and (script.lie.times is None or told < script.lie.times):
                    self._told[id(script)] = told + 1
                    return script.lie
        return Lie()

    @staticmethod
    def _headers(lie: Lie, honest: Answer, body: bytes) -> dict[str, str]:
        headers = {"Docker-Distribution-Api-Version": "registry/2.0"} | honest.headers
        if lie.framing is Framing.LENGTH:
            headers["Content-Length"] = str(len(body))
        elif lie.framing is Framing.CLOSE:
            headers["Connection"] = "close"
        else:
            headers["Transfer-Encoding"] = "chunked"
        for name, value in lie.headers.items():
            headers = {known: kept for known, kept in headers.items() if known.lower() != name.lower()}
            if value is not None:
                headers[name] = value
        return headers

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        path = unquote(record.path)
        if path == "/v2/":
            return Answer(200, {"Content-Type": "application/json"}, b"{}")
        if match := MANIFEST_PATH.fullmatch(path):
            return self._manifest(match[2])
        if match := BLOB_PATH.fullmatch(path):
            return self._blob(match[2], record.header("range") if ranged else None)
        if match := TAGS_PATH.fullmatch(path):
            tags = sorted(reference for reference in self.manifests if ":" not in reference)
            listed = json.dumps({"name": match[1], "tags": tags})
            return Answer(200, {"Content-Type": "application/json"}, listed.encode())
        return missing("NOT_FOUND")

    def _manifest(self, reference: str) -> Answer:
        if reference not in self.manifests:
            return missing("MANIFEST_UNKNOWN")
        media_type, content = self.manifests[reference]
        digest = reference if ":" in reference else digest_of(content)
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, content)

    def _blob(self, digest: str, wanted: str | None) -> Answer:
        if digest not in self.blobs:
            return missing("BLOB_UNKNOWN")
        content = self.blobs[digest]
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
        }
        match = RANGE.fullmatch(wanted or "")
        if match is None or not (match[1] or match[2]):
            return Answer(200, headers, content)
        start, stop = bounds(match[1], match[2], len(content))
        if start >= stop:
            return Answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return Answer(206, headers, content[start:stop])


def pieces(whole: range, lie: Lie) -> Iterator[range]:
    """Yields the body's offsets in the steps in which they are sent; waits where the lie says so."""
    position, hold = 0, lie.hold if lie.hold is not None and lie.hold.after >= 0 else None
    step, pause = lie.pace or (STEP, 0.0)
    while position < len(whole) or hold is not None:
        if hold is not None and position >= min(hold.after, len(whole)):
            hold.wait()
            hold = None
            continue
        limit = len(whole) if hold is None else min(hold.after, len(whole))
        stop = min(position + step, limit)
        yield whole[position:stop]
        position = stop
        if pause:
            time.sleep(pause)


def missing(code: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": "not here"}]}).encode()
    return Answer(404, {"Content-Type": "application/json"}, body)


def reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def await_receipt(connection: socket.socket) -> None:
    """Waits until the peer's kernel has received what was written."""
    queued = array.array("i", [1])
    deadline = time.monotonic() + 5
    while queued[0] and time.monotonic() < deadline:
        fcntl.ioctl(connection.fileno(), SIOCOUTQ, queued)
        time.sleep(0.001)


def break_off(connection: socket.socket) -> None:
    """Makes closing send RST, after the peer's kernel has received what was written."""
    await_receipt(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(connection: socket.socket) -> None:
    """Closes at once, even if a thread is blocked in `accept` or `recv`."""
    if connection.fileno() < 0:  # a failed TLS handshake has closed it
        return
    linger = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    if struct.unpack("ii", linger)[0] == 0:  # a shutdown would send FIN where a reset is due
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
    connection.close()
