"""`config`: what the settings are, and whether they hold together."""

import json
import os
from pathlib import Path

import typer

from gateway.cli.output import AsJson, ConfigFile, DataFolder, print_json, print_table, refusals
from gateway.settings.load import LoadedSettings, SettingRow, Settings, load, rows

app = typer.Typer(no_args_is_help=True, help="Show and check the settings.", rich_markup_mode=None)


def load_settings(config: Path | None, data: str | None) -> Settings:
    """The settings as a command without further flags sees them. Raises SettingsError."""
    return _load(config, data).settings


@app.command()
def show(config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show every setting, its value and where it came from."""
    with refusals():
        loaded = _load(config, data)
    if as_json:
        print_json([_document(row) for row in rows(loaded)])
    else:
        shown = [(row.name, json.dumps(row.value), row.source) for row in rows(loaded)]
        print_table(["Setting", "Value", "From"], shown)


@app.command()
def check(config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Check the settings without doing anything; exit code 1 if `serve` would refuse them."""
    with refusals():
        loaded = _load(config, data)
    if as_json:
        print_json([_document(row) for row in rows(loaded)])
    else:
        given = sum(row.source != "default" for row in rows(loaded))
        print(f"the settings are valid: {given} given, the others at their defaults")


def _load(config: Path | None, data: str | None) -> LoadedSettings:
    return load(config, os.environ, {"data": data})


def _document(row: SettingRow) -> dict[str, object]:
    return {"name": row.name, "value": row.value, "source": row.source}
