"""`config`: shows and checks the settings."""

import json

from gateway.cli.output import Document, print_table
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import complain, refuse
from gateway.cli.session import Session, with_session
from gateway.settings.files import UnusableFile, unusable_files
from gateway.settings.load import rows

app = plain_app()


@app.command()
@with_session
def show(session: Session) -> None:
    """Show every setting with its value and its source."""
    listed = [(row.name, json.dumps(row.value), row.source) for row in rows(session.loaded)]
    session.print(_documents(session), lambda: print_table(["Setting", "Value", "From"], listed))


@app.command()
@with_session
def check(session: Session) -> None:
    """Check the settings without doing anything; exit code 1 if `serve` would refuse them, or a file that they name is
    missing. What has no effect is told on stderr."""
    from gateway.cli.idle_settings import find_idle_settings  # `show` needs neither database nor clients

    given = sum(row.source != "default" for row in rows(session.loaded))
    files = unusable_files(session.settings)
    if missing := [_line(file) for file in files if file.is_missing]:
        refuse("\n".join(missing))
    for file in files:
        complain(f"warning: {_line(file)}")
    for idle in find_idle_settings(session.settings):
        complain(f"warning: {idle.reason}: {idle.remedy}")
    source = f", from {session.config}" if session.config else ""
    text = f"the settings are valid: {given} given, the others at their defaults{source}"
    session.print(_documents(session), lambda: print(text))


def _line(file: UnusableFile) -> str:
    remedy = "write it, or correct the setting" if file.is_missing else "let the user of the server read it"
    return f"{file.setting} = {json.dumps(str(file.path))}: {file.reason}: {remedy}"


def _documents(session: Session) -> list[Document]:
    return [{"name": row.name, "value": row.value, "source": row.source} for row in rows(session.loaded)]
