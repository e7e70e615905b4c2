"""Service manager: what a server tells the program that has started it, by the protocol of systemd (sd_notify(3))."""

import os
import socket
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell_service_manager(state: str) -> None:
    """Send a state to the socket of the environment; nothing where there is none. Raises nothing.

    Only the first process of a server may tell it: systemd hears no other.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        sending.settimeout(1)
        sending.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
