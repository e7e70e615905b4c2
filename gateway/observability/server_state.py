"""ServerState: what the HTTP server of a process knows, and its apps report."""


class ServerState:
    """The state of a server, written by it alone. `connections`: open ones; `stopping`: it accepts no more."""

    def __init__(self) -> None:
        self.connections = 0
        self.stopping = False
