"""Process: what the server around the apps of a process knows and they tell others."""


class Process:
    """Written by the server alone. `connections` are open ones of clients; `stopping`: no new ones are taken."""

    def __init__(self) -> None:
        self.connections = 0
        self.stopping = False
