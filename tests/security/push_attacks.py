"""Attacks of hostile pushers, who have valid tokens of developers: uploads without end, sessions without number, wrong
digests, and manifests that are too large or too deep."""

import base64
import json
import random
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from tests.parts.commands import Commands
from tests.parts.images import CONFIG, LAYER, MANIFEST, digest_of
from tests.parts.ports import HOST

PROJECT, REPOSITORY = "hub/storm", "/v2/hub/storm"
QUOTA = "24MiB"
"""Quota of the project, beside which the small disk of a storm has room for all else."""

SESSIONS = 300
LARGEST_MANIFEST = 4 * 1024 * 1024
LOCATION = re.compile(rb"\r\nlocation: *(\S+)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
LONGEST_HEAD = 65_536


@dataclass(frozen=True)
class PushAccess:
    """Lines of a request's head by which two hostile pushers log in, and a third who only pushes what is right."""

    developer: str
    flooder: str
    honest: str


def admit(commands: Commands) -> PushAccess:
    """Creates a project with a quota, a developer of it, and deploy tokens that may push to it."""
    commands.run("project", "create", PROJECT, "--quota", QUOTA)
    commands.run("user", "create", "mallory")
    commands.run("member", "add", PROJECT, "mallory", "developer")
    scope = ("--scope", "write_registry")
    token = commands.json("token", "create", "--user", "mallory", "--name", "storm", *scope)["token"]
    deploy = [
        commands.json("deploy-token", "create", "--project", PROJECT, "--name", name, *scope)
        for name in ("flooder", "honest")
    ]
    return PushAccess(basic("mallory", token), *(basic(each["username"], each["token"]) for each in deploy))


def basic(user: str, secret: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}\r\n"


def head(method: str, path: str, lines: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode()


def length(count: int) -> str:
    return f"Content-Length: {count}\r\n"


CHUNKED = "Transfer-Encoding: chunked\r\n"


def begin(connection: socket.socket, login: str) -> str | None:
    """Begins an upload on a connection; its path, or None if the server refuses."""
    connection.sendall(head("POST", f"{REPOSITORY}/blobs/uploads/", login + length(0)))
    received = response(connection)
    found = LOCATION.search(received) if received.startswith(b"HTTP/1.1 202") else None
    return found[1].decode() if found else None


def response(connection: socket.socket) -> bytes:
    """Reads one response whose body has a stated length; empty if none arrives."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(LONGEST_HEAD)
        if not part or len(received) > LONGEST_HEAD:
            return b""
        received += part
    stated, (_, _, body) = LENGTH.search(received), received.partition(b"\r\n\r\n")
    left = int(stated[1]) - len(body) if stated else 0
    while left > 0 and (part := connection.recv(LONGEST_HEAD)):
        received += part
        left -= len(part)
    return received


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Blob:
    data: bytes

    def finish(self, path: str, login: str) -> bytes:
        """PUT that ends an upload with this blob."""
        return head("PUT", f"{path}?digest={digest_of(self.data)}", login + length(len(self.data))) + self.data


def drawn(chance: random.Random, size: int) -> Blob:
    """One of few blobs, so that a storm stores little."""
    return Blob(chance.randbytes(1) * size)


def deep(chance: random.Random) -> bytes:
    """A document that is nested as deeply as its size allows, or that refers to as much that is not there."""
    if chance.random() < 0.5:
        return chance.choice((b"[", b'{"a":')) * (LARGEST_MANIFEST // 8)
    missing = [
        {"mediaType": LAYER, "digest": f"sha256:{chance.getrandbits(256):064x}", "size": 1} for _ in range(5_000)
    ]
    config = missing[0] | {"mediaType": CONFIG}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": missing}).encode()


def cancel(connection: socket.socket, path: str, login: str) -> None:
    """Cancels an upload, whose row would else stay for a week."""
    with suppress(OSError):
        connection.sendall(head("DELETE", path, login + "Connection: close\r\n"))
        response(connection)
