"""What all commands share: the options they take, text for people, JSON for scripts, and how they refuse."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.db.engine import DatabaseUnusable
from gateway.keys.sealing import SealBroken
from gateway.namespaces.errors import AnonymousPullRefused, LoginMisdirected, TreeError
from gateway.settings.load import SettingsError

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The settings, in TOML.", show_default=False)
]
DataFolder = Annotated[
    str | None, typer.Option("--data", metavar="DIR", help="The data folder. [default: ./registry-data]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.", show_default=False)]


_REMEDIES: dict[type[Exception], str] = {
    AnonymousPullRefused: "give --visibility public, or --no-anonymous-pull",
    LoginMisdirected: "give --upstream-username and --upstream-password-file for the new one, "
    'or --upstream-username "" to drop it',
}
"""Options that help against refusals whose own texts name none."""


class Refused(Exception):
    """A command cannot do what it was asked; the text is one line: what, why, what to do."""


@contextmanager
def refusals() -> Iterator[None]:
    """What is refused inside ends the command with exit code 1, and a line on stderr for each thing that is wrong."""
    try:
        yield
    except (Refused, SettingsError, TreeError, DatabaseUnusable, SealBroken) as error:
        remedy = _REMEDIES.get(type(error))
        refuse(f"{error}: {remedy}" if remedy else str(error))


def refuse(text: str) -> NoReturn:
    for line in text.splitlines():
        print(f"registry-gateway: {line}", file=sys.stderr)
    raise typer.Exit(1)


def print_json(document: dict[str, object] | list[dict[str, object]]) -> None:
    print(json.dumps(document, indent=2))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere lines of values parted by tabs, without headings."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
