"""ServerState: what the HTTP server of a process knows and its apps report."""


class ServerState:
    """Written by the server alone. `connections` are open ones of clients; `stopping`: no new ones are taken."""

    def __init__(self) -> None:
        self.connections = 0
        self.stopping = False
