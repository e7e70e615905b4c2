"""Ports on loopback that belong to one process of the tests alone.

A process takes ports in blocks. It keeps the first port of a block bound for as long as it lives, and a process that
finds that port taken tries another block. Two workers of one run, and two runs beside each other, therefore never use
the same port: a server that is stopped finds its port free again, and a port without a server stays without one.
"""

import random
import socket
import threading

HOST = "127.0.0.1"

PORTS = range(10_000, 32_000)
"""All of them lie below the range from which the kernel takes the ports of outgoing connections."""

BLOCK = 400
ENOUGH = 50
"""Ports that a test may need; a test begins with at least so many."""


class OwnPorts:
    """The ports of this process. `next` never returns the same port twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owned: list[socket.socket] = []
        self._unused: list[int] = []

    def reserve(self) -> None:
        """Take another block if few ports are left, before a test counts its open descriptors: a block costs one."""
        with self._lock:
            if len(self._unused) < ENOUGH:
                self._take_block()

    def next(self) -> int:
        with self._lock:
            while True:
                if not self._unused:
                    self._take_block()
                port = self._unused.pop()
                if (probe := bound(port)) is not None:
                    probe.close()
                    return port

    def close(self) -> None:
        """Give the blocks back."""
        for owned in self._owned:
            owned.close()

    def _take_block(self) -> None:
        blocks = list(PORTS[::BLOCK])
        for first in random.sample(blocks, len(blocks)):
            if (owned := bound(first)) is not None:
                self._owned.append(owned)
                self._unused += range(first + 1, min(first + BLOCK, PORTS.stop))
                return
        raise OSError(f"every block of ports from {PORTS.start} to {PORTS.stop} is taken by other processes")


_own = OwnPorts()
reserve_ports = _own.reserve
free_port = _own.next


def bound(port: int) -> socket.socket | None:
    """A socket that has the port to itself and does not listen; None where anybody else uses the port."""
    holder = socket.socket()
    try:
        holder.bind((HOST, port))
    except OSError:
        holder.close()
        return None
    return holder


def listen(port: int, backlog: int = 512) -> socket.socket:
    """Open a listening socket on 127.0.0.1; raises OSError if the port is taken."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
