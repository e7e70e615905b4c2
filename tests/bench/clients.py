"""Clients that use hardly any CPU, so that two cores measure the servers and not the clients."""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
CHUNK = 4 * 1024 * 1024
TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Got:
    """Result of a request. Seconds count from the moment the request was sent."""

    status: int
    size: int
    first_byte: float
    seconds: float
    body: bytes


def get(url: str, headers: str = "", keep_body: bool = False, rate: int | None = None) -> Got:
    """Sends one request on a new connection. The kernel itself discards a body that is not kept.

    `rate`: limit in bytes per second, for a slow client with a small receive buffer.
    """
    parts = urlsplit(url)
    with socket.socket() as connection:
        connection.settimeout(TIMEOUT)
        if rate is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.connect((parts.hostname, parts.port))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", f"Accept: {ACCEPT}", "Connection: close"]
        request = "\r\n".join(lines) + f"\r\n{headers}\r\n"
        began = time.perf_counter()
        connection.sendall(request.encode())
        head, rest = _head(connection)
        size, first, kept = len(rest), (time.perf_counter() - began if rest else 0.0), [rest]
        length = _length(head)
        while length is None or size < length:
            if rate is not None and (ahead := size / rate - (time.perf_counter() - began)) > 0:
                time.sleep(min(ahead, 1.0))
            part = connection.recv(64 * 1024) if keep_body else b""
            count = len(part) if keep_body else _discard(connection, rate)
            if not count:
                break
            first = first or time.perf_counter() - began
            size += count
            kept.append(part)
        return Got(int(head.split(b" ", 2)[1]), size, first, time.perf_counter() - began, b"".join(kept))


def pull(base: str, digest: str, tag: str = "latest") -> Got:
    """Pulls as a client does: the manifest by tag, then the one layer. The seconds are those of both."""
    began = time.perf_counter()
    manifest = get(f"{base}/manifests/{tag}", keep_body=True)
    if manifest.status != 200 or digest not in manifest.body.decode():
        raise RuntimeError(f"{base}: {manifest.status} {manifest.body[:200]!r}")
    blob = get(f"{base}/blobs/{digest}")
    if blob.status not in (200, 206):
        raise RuntimeError(f"{base}: {blob.status}")
    return Got(blob.status, blob.size, blob.first_byte, time.perf_counter() - began, manifest.body)


def at_once(count: int, work: Callable[[], T]) -> tuple[list[T], float]:
    """Runs `work` in `count` threads; returns the results, and the seconds from the first start to the last end."""
    results: list[T] = []
    barrier = threading.Barrier(count + 1)

    def run() -> None:
        barrier.wait()
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if len(results) != count:
        raise RuntimeError(f"{count - len(results)} of {count} clients failed")
    return results, time.perf_counter() - began


def layer_of(manifest: bytes) -> str:
    return str(json.loads(manifest)["layers"][0]["digest"])


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(8192)
        if not part:
            raise RuntimeError("the connection ended before the head did")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return None


def _discard(connection: socket.socket, rate: int | None) -> int:
    count = CHUNK if rate is None else min(CHUNK, max(1024, rate // 4))
    return connection.recv_into(_TRASH, count, socket.MSG_TRUNC)


_TRASH = bytearray(CHUNK)
