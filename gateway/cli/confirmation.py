"""Confirmation: what cannot be undone is asked for where a person can answer, and needs a word where nobody can."""

import sys
from typing import Annotated

import typer

from gateway.cli.refusals import Refused

YesOption = Annotated[bool, typer.Option("--yes", help="Do it without a question.", show_default=False)]


def confirm(what: str, yes: bool) -> None:
    """Ask whether to do something, unless `yes`. Raises Refused if the answer is no, or nobody can be asked."""
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise Refused(f"this would {what}, and nobody can be asked: give --yes to do it, or --dry-run to see it")
    if not typer.confirm(f"{what}?", err=True):
        raise Refused("nothing was done: the answer was no")
