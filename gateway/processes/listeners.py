"""The addresses of a server: the sockets it listens on, and under which URL clients reach each."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from gateway.server.connections import BACKLOG
from gateway.settings.load import Settings


class CannotListen(Exception):
    """An address cannot be had; the text says why, and what a person can do about it."""


@contextmanager
def bound(settings: Settings) -> Iterator[list[socket.socket]]:
    """The socket of the main address and those of the listeners, in their order. Raises CannotListen."""
    with ExitStack() as sockets:
        listening = [sockets.enter_context(_listen(settings.host, settings.port, "give --host and --port"))]
        for number, listener in enumerate(settings.listener, 1):
            remedy = f"change host or port of listener {number}"
            listening.append(sockets.enter_context(_listen(listener.host, listener.port, remedy)))
        yield listening


def urls_of(settings: Settings, listening: Sequence[socket.socket]) -> list[str]:
    """Of these sockets, as clients reach them."""
    given = [settings.external_url, *(listener.external_url for listener in settings.listener)]
    names = [listener.getsockname()[:2] for listener in listening]
    return [url or url_of(settings, *name) for url, name in zip(given, names, strict=True)]


def configured_urls(settings: Settings) -> list[str]:
    """The same by the settings alone, for a server that does not run."""
    main = settings.external_url or url_of(settings, settings.host, settings.port)
    return [main, *(one.external_url or url_of(settings, one.host, one.port) for one in settings.listener)]


def url_of(settings: Settings, host: str, port: int) -> str:
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _listen(host: str, port: int, remedy: str) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {port} ({error.strerror}): stop what uses it, or {remedy}"
        ) from error
