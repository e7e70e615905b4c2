"""Lazy commands: a command's module is imported when the command is called, not when it is listed.

Importing all of them took a second, which `--help` and each command waited for.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from gateway.cli.catalogue import CATALOGUE, PROGRAM, Entry, leaves
from gateway.cli.recorded_help import RecordedCommand, read_record

SETTINGS = {"help_option_names": ["--help", "-h"]}
"""Settings of every command and group."""

_IMPORTED_LATER = [
    "gateway.auth.passwords",
    "gateway.db.postgresql_changes",
    "rich.console",
    "rich.progress",
    "rich.table",
]
"""What modules of commands import where they need it."""


class LazyGroup(TyperGroup):
    """A group whose commands are in the catalogue alone until one of them is called."""

    def __init__(self, *, entries: Mapping[str, Entry] = CATALOGUE, path: str = "", **attributes: Any) -> None:
        commands = {name: TyperCommand(name, short_help=entry.summary) for name, entry in entries.items()}
        super().__init__(**{**attributes, "commands": commands})
        self._entries = entries
        self._path = path

    def get_params(self, ctx: Any) -> Any:
        """Its options, among them `--help`: those that are flags are off without a word.

        typer imports pydantic to find out what a flag without a default means, which took half the time of
        `cache evict --help`.
        """
        params = super().get_params(ctx)
        for param in params:
            if param.default is None and getattr(param, "is_flag", False):
                param.default = False
        return params

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of the first word, and import it. Raises a usage error if there is none."""
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None or listed is None:
            return name, listed, rest
        path, entry = f"{self._path} {name}".strip(), self._entries[name]
        if len(rest) == 1 and rest[0] in SETTINGS["help_option_names"] and path in read_record():
            return name, _with_example(RecordedCommand(name, read_record()[path], rich_markup_mode=None), entry), rest
        return name, command_of(path, entry), rest


@cache
def commands_of(module: str) -> dict[str, Any]:
    """The commands of a module by their names."""
    with _no_collection():
        app = import_module(f"gateway.cli.{module}").app
    built: Any = typer.main.get_command(app)
    return dict(built.commands) if isinstance(built, TyperGroup) else {built.name: built}


def command_of(path: str, entry: Entry) -> Any:
    """The command of a full name, such as `cache list`, or the group of the name of one."""
    last = path.rpartition(" ")[2]
    if entry.commands:
        more = f"`{PROGRAM} {path} COMMAND --help` shows the options of a command, and an example."
        return LazyGroup(
            entries=entry.commands,
            path=path,
            name=last,
            help=f"{entry.summary}.",
            epilog=more,
            no_args_is_help=True,
            context_settings=SETTINGS,
            rich_markup_mode=None,
        )
    return _with_example(commands_of(_module_of(path, entry))[last], entry)


def _with_example(command: Any, entry: Entry) -> Any:
    command.context_settings.update(SETTINGS)
    command.epilog = f"\b\nExample:\n  {PROGRAM} {entry.example}"
    return command


def import_all() -> None:
    """Import what any command may import, also in the middle of its work."""
    for name, entry in leaves():
        commands_of(_module_of(name, entry))
    for module in _IMPORTED_LATER:
        import_module(module)


def _module_of(path: str, entry: Entry) -> str:
    return entry.module or path.partition(" ")[0].replace("-", "_")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Imports make much and leave no garbage: the collector took an eighth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
