"""The record of what `--help` of each command tells: `python -m tests.gateway.cli.help_record` writes it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from gateway.cli.catalogue import PROGRAM, leaves
from gateway.cli.lazy import SETTINGS, command_of
from gateway.cli.recorded_help import FILE

Rows = list[list[str]]


class _Sections:
    """Stands in for a formatter of help, and keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[list[Any]] = []

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        self.kept.append([title, []])
        yield

    def write_dl(self, rows: list[tuple[str, str]]) -> None:
        self.kept[-1][1].extend(map(list, rows))


def context_of(name: str, command: Any, width: int | None = None) -> Any:
    return typer.Context(command, info_name=f"{PROGRAM} {name}", terminal_width=width, **SETTINGS)


def record() -> dict[str, Any]:
    """What the commands tell now."""
    found = {}
    for name, entry in leaves():
        command, sections = command_of(name, entry), _Sections()
        context = context_of(name, command)
        command.format_options(context, sections)
        usage = command.collect_usage_pieces(context)
        found[name] = {"help": command.help, "usage": usage, "sections": sections.kept}
    return found


if __name__ == "__main__":
    FILE.write_text(f"{json.dumps(record(), indent=1, ensure_ascii=False)}\n")
