"""What every command has, for those that only print and import nothing else of the command line."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.", show_default=False)]
_UNUSED = "which this command does not need."
UnusedConfig = Annotated[
    str, typer.Option("--config", metavar="FILE", help=f"The settings, {_UNUSED}", show_default=False)
]
UnusedData = Annotated[
    str, typer.Option("--data", metavar="DIR", help=f"The data folder, {_UNUSED}", show_default=False)
]


def plain_app() -> typer.Typer:
    """Make the command line of one such command."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
