"""ServerState: what the HTTP server of a process knows, and its apps report."""

import asyncio


class ServerState:
    """The state of a server, written by it alone. `connections`: open ones; `stopping`: it accepts no more, nor does
    any other process; `closed`: set when this process accepts no more, while others may serve in its place."""

    def __init__(self) -> None:
        self.connections = 0
        self.stopping = False
        self.closed = asyncio.Event()
