"""`config`: shows and checks the settings."""

import json

import typer

from gateway.cli.output import Document, print_table
from gateway.cli.session import Session, with_session
from gateway.settings.load import rows

app = typer.Typer(no_args_is_help=True, help="Show and check the settings.", rich_markup_mode=None)


@app.command()
@with_session
def show(session: Session) -> None:
    """Show every setting with its value and its source."""
    listed = [(row.name, json.dumps(row.value), row.source) for row in rows(session.loaded)]
    session.print(_documents(session), lambda: print_table(["Setting", "Value", "From"], listed))


@app.command()
@with_session
def check(session: Session) -> None:
    """Check the settings without doing anything; exit code 1 if `serve` would refuse them."""
    given = sum(row.source != "default" for row in rows(session.loaded))
    text = f"the settings are valid: {given} given, the others at their defaults"
    session.print(_documents(session), lambda: print(text))


def _documents(session: Session) -> list[Document]:
    return [{"name": row.name, "value": row.value, "source": row.source} for row in rows(session.loaded)]
