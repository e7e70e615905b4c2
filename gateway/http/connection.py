"""The connection below an ASGI `send`, where the server is Hypercorn; nothing where its insides are not recognised.

ASGI has no word for "give up on this client". The `send` of Hypercorn is a method of its stream, which leads over the
protocol to the connection and its transport; a wire test holds the version to this.
"""

import asyncio
import fcntl
import struct
import termios
from typing import Any

from starlette.types import Send


def transport_of(send: Send) -> asyncio.WriteTransport | None:
    stream = getattr(send, "__self__", None)
    protocol = _owner(stream)
    connection = _owner(protocol)
    writer = getattr(connection, "writer", None)
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes that the client's side has not taken yet, in our buffer and in the kernel's."""
    waiting = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return waiting
    (queued,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return waiting + int(queued)


def _owner(holder: Any) -> Any:
    return getattr(getattr(holder, "send", None), "__self__", None)
