"""Binds the address, runs the server, and ends it gracefully. One process for now."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from cache.failpoint import arm
from cache.index.sqlite import DatabaseUnusable
from gateway import logs
from gateway.app import open_proxy_allowed, running
from gateway.db.groups import HUB
from gateway.logs import AccessLines
from gateway.process import Process
from gateway.server import BACKLOG, Server, TlsFiles, TlsUnusable, tls_context
from gateway.settings import Settings

log = structlog.get_logger()

GRACE_SECONDS = 60.0


class CannotServe(Exception):
    """The server cannot start; the text says why, and what a person can do about it."""


def serve(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM; the exit code. The data folder must have been made."""
    logs.configure(settings.log_format)
    arm(os.environ.get("FAILPOINTS", ""))
    try:
        with _alone(settings.data), _bound(settings.host, settings.port) as listener:
            if files := _tls_files(settings):
                tls_context(files)  # before anything is said of serving
            url = settings.external_url or _url_of(settings, listener)
            _warn(settings, url)
            with _announced(settings.data, url):
                asyncio.run(_run(settings, listener, url))
    except (CannotServe, DatabaseUnusable, TlsUnusable) as error:
        print(f"registry-gateway: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: Settings, listener: socket.socket, url: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    lines, process = AccessLines(settings.log_format), Process()
    try:
        async with running(settings, url, lines.write, process) as app:
            await Server(app, _tls_files(settings), process=process).serve(listener, stop, GRACE_SECONDS)
    finally:
        lines.close()


def _tls_files(settings: Settings) -> TlsFiles | None:
    return TlsFiles(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Raises CannotServe while another server uses the folder."""
    try:
        lock = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotServe(f"data folder {data.absolute()} cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotServe(
                f"another server uses the data folder {data.absolute()}: stop it, or give --data another folder"
            ) from error
        yield
    finally:
        os.close(lock)


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Raises CannotServe for an address that cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise CannotServe(
            f"cannot listen on {host} port {port} ({error.strerror}): stop what uses it, or give --host and --port"
        ) from error
    with listener:
        yield listener


def _url_of(settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextmanager
def _announced(data: Path, url: str) -> Iterator[None]:
    """Tells other commands by a file, and the person at the terminal what to try."""
    file = data / "run.json"
    part = data / "run.json.part"
    part.write_text(json.dumps({"pid": os.getpid(), "addresses": [url]}) + "\n")
    part.replace(file)
    image = f"{url.partition('://')[2]}/{HUB}/dependency_proxy/containers/alpine:latest"
    plain = " --tls-verify=false" if url.startswith("http://") else ""
    print(f"registry-gateway serves {url}, data in {data.absolute()}")
    print(f"try:  docker pull {image}")
    print(f"or:   skopeo inspect{plain} docker://{image}", flush=True)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _warn(settings: Settings, url: str) -> None:
    if not open_proxy_allowed(settings, url):
        log.warning(
            "open_proxy_off",
            reason="groups with anonymous pull are refused because this server is reached beyond its own machine",
            remedy="set allow_open_proxy = true if everybody who reaches it may pull",
        )
    for name, upstream in settings.upstreams.items():
        if upstream.username and upstream.groups:
            log.warning(
                "credential_lent",
                upstream=name,
                groups=list(upstream.groups),
                reason="whoever may pull through these groups reads what this account may read",
            )
