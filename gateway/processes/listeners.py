"""The addresses of a server: the sockets that it listens on, and the URLs by which clients reach them."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from gateway.processes.errors import CannotStart
from gateway.processes.urls import url_of
from gateway.server.http_server import BACKLOG
from gateway.settings.tables import Settings


@contextmanager
def bound(settings: Settings) -> Iterator[list[socket.socket]]:
    """Bind the main address and those of the listeners, in their order. Raises CannotStart."""
    with ExitStack() as sockets:
        listening = [sockets.enter_context(_listen(settings.host, settings.port, ("host", "port")))]
        for number, listener in enumerate(settings.listener, 1):
            where = (f"listener[{number}].host", f"listener[{number}].port")
            listening.append(sockets.enter_context(_listen(listener.host, listener.port, where)))
        yield listening


def urls_of(settings: Settings, listening: Sequence[socket.socket]) -> list[str]:
    """List the URLs by which clients reach these sockets."""
    given = [settings.external_url, *(listener.external_url for listener in settings.listener)]
    names = [listener.getsockname()[:2] for listener in listening]
    return [url or url_of(settings, *name) for url, name in zip(given, names, strict=True)]


def _listen(host: str, port: int, where: tuple[str, str]) -> socket.socket:
    """Bind an address, which the settings `where` name."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        reason = f"cannot listen on {host} port {port} ({error.strerror})"
        raise CannotStart(reason, remedy="stop what uses it", settings=where) from error
