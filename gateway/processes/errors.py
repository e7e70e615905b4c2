"""Errors that keep a server from starting."""


class CannotStart(Exception):
    """The server cannot start; the text states why.

    `remedy`: what a person can do, empty if the text states it. `settings`: names of settings whose change would help.
    """

    def __init__(self, reason: str, *, remedy: str = "", settings: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.settings = settings


class NoWorkerReady(Exception):
    """No worker became ready; the text states why."""
