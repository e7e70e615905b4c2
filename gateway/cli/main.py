"""Command line: `registry-gateway` with all its commands, each imported when it is called."""

import os
import signal
import sys
from typing import Annotated

import typer

from gateway.cli.catalogue import PROGRAM
from gateway.cli.last_resort import guarded
from gateway.cli.lazy import SETTINGS, LazyGroup
from gateway.release import installed_version

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    epilog=f"`{PROGRAM} COMMAND --help` shows the options of a command, and an example; `{PROGRAM} help` lists the "
    "pages of the documentation.",
)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:  # SIGHUP waits until there is a server that acts on it: by default it ends a process
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    os.umask(0o077)  # whatever a command makes is for its own user, also what a library makes
    guarded(lambda: app(prog_name=PROGRAM))


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    found = installed_version()
    print(f"{PROGRAM} {found}" if found else f"{PROGRAM}, version unknown: it is not installed")
    raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An OCI registry gateway: pull through a group prefix, cached, verified before it completes."""
