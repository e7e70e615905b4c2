"""`example`: prints a file with which the server is run, watched or configured.

It needs no settings and no data folder, and imports none of the other commands, so that it responds at once.
"""

import json
from enum import StrEnum
from importlib.resources import files
from typing import Annotated

import typer

from gateway.cli.plain_options import JsonOption, UnusedConfig, UnusedData, plain_app

app = plain_app()

_FOLDER = files("gateway") / "examples"


class Example(StrEnum):
    """A file that is part of the program; its value is what the command line calls it."""

    SYSTEMD = "systemd"
    SETTINGS = "settings"
    COMPOSE = "compose"
    ALERTS = "alerts"
    DASHBOARD = "dashboard"

    @property
    def file_name(self) -> str:
        """The name of the file among the examples."""
        return _FILE_NAMES[self]

    @property
    def text(self) -> str:
        """The content of the file."""
        return (_FOLDER / self.file_name).read_text(encoding="utf-8")


_FILE_NAMES = {
    Example.SYSTEMD: "registry-gateway.service",
    Example.SETTINGS: "settings.toml",
    Example.COMPOSE: "compose.yaml",
    Example.ALERTS: "alerts.yaml",
    Example.DASHBOARD: "dashboard.json",
}


@app.command("example")
def example_command(
    name: Annotated[Example, typer.Argument(help="Which file: its first lines say where it belongs.")],
    _config: UnusedConfig = "",
    _data: UnusedData = "",
    as_json: JsonOption = False,
) -> None:
    """Print a file to run this server with: a unit for systemd, settings, a Compose file, alerts, a dashboard."""
    if as_json:
        print(json.dumps({"example": name.value, "file": name.file_name, "text": name.text}, indent=2))
    else:
        print(name.text, end="")
