"""Client over one connection that it keeps, for thousands of small requests to a server that is near."""

import base64
import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.parts.ports import HOST

TIMEOUT = 60
Header = tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """A complete response; header names are in lower case."""

    status: int
    headers: Sequence[Header]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def error(self) -> dict[str, Any]:
        """The first error of the body; empty where there is none."""
        if not self.body.startswith(b'{"errors":'):
            return {}
        [first, *_] = json.loads(self.body)["errors"]
        return dict(first)

    @property
    def code(self) -> str:
        return str(self.error.get("code", ""))

    @property
    def text(self) -> str:
        """All that the error says."""
        return self.body.decode(errors="replace")


class Kept:
    """Sends one request after the other; connects again when the server has closed the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> "Kept":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    @property
    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Addresses of the client and of the server."""
        connection = self._connected()
        return connection.getsockname(), connection.getpeername()

    def send(self, method: str, target: str, headers: Sequence[Header] = (), body: bytes = b"") -> Answer:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{self._port}", *(f"{k}: {v}" for k, v in headers)]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        return self.exchange(method, "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body)

    def exchange(self, method: str, request: bytes) -> Answer:
        """Sends the bytes of a request, and reads its response."""
        reused = self._socket is not None
        try:
            self._connected().sendall(request)
            return self._read(method)
        except ConnectionError:
            self.close()
            if not reused:
                raise
        self._connected().sendall(request)
        return self._read(method)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port), timeout=TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _read(self, method: str) -> Answer:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        answer = Answer(int(first.split()[1]), headers, b"")
        if method != "HEAD" and answer.status not in (204, 304):
            length = answer.header("content-length")
            assert length is not None, f"a response without a length: {head!r}"
            while len(self._buffer) < int(length):
                self._fill()
            body, self._buffer = self._buffer[: int(length)], self._buffer[int(length) :]
            answer = Answer(answer.status, headers, body)
        if (answer.header("connection") or "").lower() == "close":
            self.close()
        return answer

    def _fill(self) -> None:
        part = self._connected().recv(262_144)
        if not part:
            raise ConnectionResetError("the server closed the connection")
        self._buffer += part


def computed(pids: Iterable[int]) -> float:
    """Seconds for which processes have had a processor (proc_pid_schedstat(5): nanoseconds of the main thread)."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def basic(username: str, secret: str) -> Header:
    return "Authorization", f"Basic {base64.b64encode(f'{username}:{secret}'.encode()).decode()}"


def bearer(token: str) -> Header:
    return "Authorization", f"Bearer {token}"


def scope(name: str, actions: str = "pull,push,delete") -> str:
    return f"repository:{name}:{actions}"


def request_by_get(client: Kept, username: str, secret: str, scopes: Sequence[str], *more: Header) -> Answer:
    """Requests a token by GET, as docker does; without a secret, an anonymous one."""
    query = urlencode([("service", "registry-gateway"), *(("scope", text) for text in scopes), *more])
    return client.send("GET", f"/jwt/auth?{query}", [basic(username, secret)] if secret else [])


def request_by_post(client: Kept, username: str, secret: str, scopes: Sequence[str], *more: Header) -> Answer:
    """Requests a token by POST, as containerd does, with all scopes in one field."""
    fields = [("grant_type", "password"), ("service", "registry-gateway"), ("client_id", "tests"), *more]
    fields += [("username", username), ("password", secret), ("scope", " ".join(scopes))]
    return client.send("POST", "/jwt/auth", [FORM], urlencode(fields).encode())


def request_by_refresh(client: Kept, refresh_token: str, scopes: Sequence[str]) -> Answer:
    """Requests a token with a refresh token."""
    fields = [("grant_type", "refresh_token"), ("service", "registry-gateway"), ("client_id", "tests")]
    fields += [("refresh_token", refresh_token), ("scope", " ".join(scopes))]
    return client.send("POST", "/jwt/auth", [FORM], urlencode(fields).encode())


FORM: Header = ("Content-Type", "application/x-www-form-urlencoded")


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    return str(json.loads(answer.body)["token"])


def claims_of(token: str) -> dict[str, Any]:
    """Claims of a token, whose signature is not looked at."""
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def granted_by(token: str) -> dict[str, frozenset[str]]:
    """What a token grants, by name."""
    return {entry["name"]: frozenset(entry["actions"]) for entry in claims_of(token)["access"]}
