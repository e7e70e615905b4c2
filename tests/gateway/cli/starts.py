"""Starts of `serve` that serve nothing."""

from pathlib import Path
from typing import Any

from gateway.processes.supervisor import Findings, StartWarning
from gateway.settings.tables import Settings


class Starts:
    """Stands in for the supervisor: each start is ready at once, and its warnings are kept."""

    def __init__(self) -> None:
        self.warnings: list[list[StartWarning]] = []

    def serve(
        self,
        settings: Settings,
        found: Findings,
        ready: Any,
        rereading: object,
        config: Path | None,
    ) -> None:
        self.warnings.append(list(found.warnings))
        ready(["http://127.0.0.1:8080"])

    def warnings_of(self, event: str) -> list[StartWarning]:
        """The warnings of all starts with this event."""
        return [warning for warnings in self.warnings for warning in warnings if warning.event == event]
