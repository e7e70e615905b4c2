"""Recorded help: what `--help` of each command tells of its options, so that it is shown without importing the command.

Importing what a command works with takes several times as long as everything else that `--help` does. The tests
compare the record with the commands, and write it.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

FILE = Path(__file__).with_name("recorded_help.json")
Rows = list[list[str]]


@cache
def read_record() -> dict[str, dict[str, Any]]:
    """What was recorded, by the full names of commands."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return found


class RecordedCommand(TyperCommand):
    """A command that can do nothing but show its help."""

    def __init__(self, name: str, recorded: dict[str, Any], **attributes: Any) -> None:
        super().__init__(name, help=recorded["help"], **attributes)
        self._usage: list[str] = recorded["usage"]
        self._sections: list[tuple[str, Rows]] = recorded["sections"]

    def collect_usage_pieces(self, _ctx: Any) -> list[str]:
        return self._usage

    def format_options(self, _ctx: Any, formatter: Any) -> None:
        for title, rows in self._sections:
            with formatter.section(title):
                formatter.write_dl([tuple(row) for row in rows])
