"""Attacks of hostile clients on a server: floods, inventions, and connections that are held."""

import random
import socket
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.parts.ports import HOST

from . import push_attacks as pushed
from .push_attacks import PushAccess
from .serving import SMALL_BUFFER

PATIENCE = 5.0
"""Seconds for which an attacker waits for a server that takes nothing more."""

PIECES = 200
PIPELINED = 300
INVENTED = 100
PREFIX = "/v2/hub/dependency_proxy/containers/"
MANIFEST_LINE = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
MANIFESTS = "Accept: application/vnd.oci.image.manifest.v1+json\r\n"


@dataclass(frozen=True)
class Target:
    """A server under attack, and the paths of what it has cached; `context`: the TLS of its clients, if any; `pushers`:
    how hostile ones log in."""

    port: int
    context: ssl.SSLContext | None
    blob: str
    manifest: str
    tags: str
    pushers: PushAccess

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(PATIENCE)
        try:
            if receive_buffer is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.connect((HOST, self.port))
            if self.context is not None:
                return self.context.wrap_socket(connection, server_hostname=HOST)
        except BaseException:
            connection.close()
            raise
        return connection


Attack = Callable[[Target, random.Random], None]
"""One round of an attack. Raises OSError when the server refuses or ends it."""


def head(method: str, path: str, lines: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode()


# Floods.


def flood_of_chunks(target: Target, chance: random.Random) -> None:
    """A body of one-byte chunks, to whatever path, from a client that then leaves."""
    path = chance.choice((target.blob, target.manifest, "/v2/x", "/"))
    with target.connect() as connection:
        connection.sendall(head("POST", path, "Transfer-Encoding: chunked\r\n"))
        for _ in range(PIECES):
            connection.sendall(chance.choice((b"1\r\na\r\n", b"40\r\n%b\r\n" % bytes(64))) * chance.choice((1, 1_000)))


def endless_body(target: Target, chance: random.Random) -> None:
    method, path = chance.choice((("PUT", target.manifest), ("POST", "/v2/x"), ("GET", target.blob)))
    with target.connect() as connection:
        connection.sendall(head(method, path, "Content-Length: 1000000000000\r\n"))
        for _ in range(PIECES):
            connection.sendall(bytes(65_536))


def flood_of_heads(target: Target, chance: random.Random) -> None:
    """One head without an end, or one request after another without reading a response."""
    with target.connect() as connection:
        if chance.random() < 0.5:
            connection.sendall(f"GET {target.blob} HTTP/1.1\r\nHost: {HOST}\r\n".encode())
            for number in range(PIECES):
                connection.sendall(b"A-%d: b\r\n" % number * 100)
        else:
            for _ in range(PIECES):
                connection.sendall(head("HEAD", target.manifest, MANIFESTS))


def pipelined(target: Target, chance: random.Random) -> None:
    """Hundreds of requests at once, of whose responses the client reads the first bytes alone."""
    path = chance.choice((target.blob, target.manifest, target.tags, "/-/ready"))
    with target.connect(SMALL_BUFFER) as connection:
        connection.sendall(head("GET", path, MANIFESTS) * PIPELINED)
        connection.recv(1_000)


def leaving_early(target: Target, chance: random.Random) -> None:
    """Clients that leave with the first bytes, every other one by a reset."""
    with target.connect(SMALL_BUFFER) as connection:
        connection.sendall(head("GET", target.blob))
        connection.recv(1_000)
        if chance.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# Inventions.


def inventions(target: Target, chance: random.Random) -> None:
    """Names, tags, digests and queries that nobody has ever heard of, one after another on one connection."""
    with target.connect() as connection:
        for _ in range(INVENTED):
            connection.sendall(head(chance.choice(("GET", "HEAD")), invented(chance), MANIFESTS))
            while not connection.recv(65_536):
                return


def invented(chance: random.Random) -> str:
    """Path with an invented part."""
    word, digest = f"{chance.getrandbits(48):x}", f"sha256:{chance.getrandbits(256):064x}"
    return chance.choice(
        (
            f"{PREFIX}library/{word}/manifests/latest",
            f"{PREFIX}library/any/manifests/{word}",
            f"{PREFIX}library/any/manifests/{digest}",
            f"{PREFIX}library/any/blobs/{digest}",
            f"{PREFIX}{word}.test/any/manifests/latest",
            f"/v2/{word}/dependency_proxy/containers/library/any/manifests/latest",
            f"{PREFIX}library/any/tags/list?n={chance.randrange(1, 100)}&last={word}",
            f"{PREFIX}library/{word}/tags/list?{word}=%00",
            f"{PREFIX}library/any/referrers/{digest}?artifactType=application/{word}",
            f"/{word}",
        )
    )


# Pushers.


@contextmanager
def begun_upload(target: Target, login: str) -> Iterator[tuple[socket.socket, str]]:
    """A connection with the path of an upload that was begun on it, and that is cancelled on another one at the end.

    Raises OSError where the server begins none.
    """
    with target.connect() as connection:
        path = pushed.begin(connection, login)
        if path is None:
            raise OSError("the server begins no upload")
        try:
            yield connection, path
        finally:
            with target.connect() as other:
                pushed.cancel(other, path, login)


def endless_upload(target: Target, chance: random.Random) -> None:
    """A body without end, or one of a stated trillion bytes, to an upload that the pusher has begun.

    Some leave, and some cancel the upload on another connection while they send to it.
    """
    login = target.pushers.developer
    with begun_upload(target, login) as (connection, path):
        if chance.random() < 0.3:
            connection.sendall(head("PATCH", path, login + pushed.length(10**12)))
            piece = bytes(65_536)
        else:
            connection.sendall(head("PATCH", path, login + pushed.CHUNKED))
            piece = b"10000\r\n%b\r\n" % bytes(65_536)
        for _ in range(PIECES):
            connection.sendall(piece)
        if chance.random() < 0.5:
            pushed.reset(connection)


def flood_of_chunks_to_an_upload(target: Target, chance: random.Random) -> None:
    """Chunks of one byte, to an upload that the pusher has begun."""
    login = target.pushers.developer
    with begun_upload(target, login) as (connection, path):
        connection.sendall(head(chance.choice(("PATCH", "PUT")), path, login + pushed.CHUNKED))
        for _ in range(PIECES):
            connection.sendall(b"1\r\na\r\n" * chance.choice((1, 1_000)))


def flood_of_sessions(target: Target, chance: random.Random) -> None:
    """Hundreds of uploads that are begun at once, of which nothing arrives."""
    with target.connect() as connection:
        begun = head("POST", f"{pushed.REPOSITORY}/blobs/uploads/", target.pushers.flooder + pushed.length(0))
        connection.sendall(begun * pushed.SESSIONS)
        for _ in range(chance.randrange(pushed.SESSIONS)):
            if not pushed.response(connection):
                return


def wrong_pushes(target: Target, chance: random.Random) -> None:
    """A wrong digest, a wrong offset, a wrong length, and one upload that is ended twice at once."""
    login, blob = target.pushers.developer, pushed.drawn(chance, 10_000)
    with target.connect() as connection, target.connect() as other:
        path = pushed.begin(connection, login)
        if path is None:
            return
        range_line = f"Content-Range: {chance.randrange(1, 10**9)}-9999999999\r\n"
        connection.sendall(head("PATCH", path, login + range_line + pushed.length(5)) + b"abcde")
        pushed.response(connection)
        if chance.random() < 0.5:
            wrong = f"{path}?digest=sha256:{chance.getrandbits(256):064x}"
            connection.sendall(head("PUT", wrong, login + pushed.length(len(blob.data))) + blob.data)
            pushed.response(connection)
        for each in (connection, other):
            each.sendall(blob.finish(path, login))
        for each in (connection, other):
            pushed.response(each)


def large_manifests(target: Target, chance: random.Random) -> None:
    """Manifests that are too large, nested too deeply, or refer to thousands of blobs that are not there."""
    login = target.pushers.developer + MANIFEST_LINE
    path = f"{pushed.REPOSITORY}/manifests/v{chance.randrange(10)}"
    with target.connect() as connection:
        if chance.random() < 0.4:
            connection.sendall(head("PUT", path, login + pushed.CHUNKED))
            for _ in range(PIECES):
                connection.sendall(b"10000\r\n%b\r\n" % (b" " * 65_536))
        else:
            document = pushed.deep(chance)
            connection.sendall(head("PUT", path, login + pushed.length(len(document))) + document)
        pushed.response(connection)


def flood_of_logins(target: Target, chance: random.Random) -> None:
    """Logins with invented names and requests for tokens, one after another on a connection."""
    with target.connect() as connection:
        for _ in range(INVENTED):
            name = f"u{chance.getrandbits(64)}"
            secret = chance.choice((name, f"rgpat-{name}"))
            login = "Authorization: Basic " + b64encode(f"{name}:{secret}".encode()).decode() + "\r\n"
            path = f"/jwt/auth?service=registry-gateway&scope=repository:{name}/x:pull"
            connection.sendall(head("GET", path, chance.choice((login, ""))))
            pushed.response(connection)


# Held connections.


class Held:
    """Connections that are opened, get no further, and stay until the end of the block."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def hold(self, target: Target, sent: bytes, count: int) -> None:
        """Open connections that send these bytes and then neither send nor read."""
        for _ in range(count):
            with suppress(OSError):  # at its cap a server refuses
                connection = self._stack.enter_context(target.connect(SMALL_BUFFER))
                connection.sendall(sent)

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def occupy(held: Held, target: Target, slow: Sequence[str], count: int) -> None:
    """Occupy a server by heads and bodies without end, and by readers that do not read; `slow`: paths of blobs that
    the upstream sends slowly."""
    held.hold(target, head("GET", target.blob, "A: ")[:-2], count)
    held.hold(target, head("POST", target.blob, "Content-Length: 1000000\r\n") + b"abc", count)
    for path in (target.blob, target.manifest, target.tags):
        held.hold(target, head("GET", path, MANIFESTS) * 2, count)
    with suppress(OSError), target.connect() as connection:
        if (path := pushed.begin(connection, target.pushers.developer)) is not None:
            upload = head("PATCH", path, target.pushers.developer + pushed.length(1_000_000))
            held.hold(target, upload + b"abc", count)
    for path in slow:
        held.hold(target, head("GET", path), 1)


ATTACKS: tuple[tuple[Attack, int], ...] = (
    (flood_of_chunks, 3),
    (endless_body, 2),
    (flood_of_heads, 2),
    (pipelined, 2),
    (leaving_early, 2),
    (inventions, 4),
    (endless_upload, 2),
    (flood_of_chunks_to_an_upload, 1),
    (flood_of_sessions, 1),
    (wrong_pushes, 2),
    (large_manifests, 1),
    (flood_of_logins, 4),
)
"""Attacks, and the number of attackers of each kind."""


class Attackers:
    """Threads that attack a target within `with`; each begins another round when one has ended.

    `names`: the attacks; all of them if empty.
    """

    def __init__(self, target: Target, seed: str, names: Sequence[str] = ()) -> None:
        self._target = target
        self._ending = threading.Event()
        self.rounds = 0
        self._threads = [
            threading.Thread(target=self._assail, args=(attack, random.Random(f"{seed} {attack.__name__} {number}")))
            for attack, count in ATTACKS
            if not names or attack.__name__ in names
            for number in range(count)
        ]

    def _assail(self, attack: Attack, chance: random.Random) -> None:
        while not self._ending.wait(0.02):
            with suppress(OSError):
                attack(self._target, chance)
            self.rounds += 1

    def __enter__(self) -> "Attackers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
