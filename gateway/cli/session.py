"""Session: the options, settings and error mapping that all commands share, written once.

A command is a function whose first parameter is a Session. `with_session` gives it the common options, and expands each
parameter whose type is a dataclass into one option per field.
"""

import inspect
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from gateway.cli import readable
from gateway.cli.output import Document, print_json, print_json_pages, print_table_pages
from gateway.cli.owner import become_owner, require_owner
from gateway.cli.plain_options import JsonOption
from gateway.cli.refusals import refusals
from gateway.cli.settings_file import file_of_command, file_of_server
from gateway.data_folder import CacheFolder
from gateway.settings.load import LoadedSettings, load
from gateway.settings.tables import Settings

_CONFIG = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The settings, in TOML.", show_default=False)
]
_DATA = Annotated[str | None, typer.Option("--data", metavar="DIR", help="The data folder. [default: ./registry-data]")]


_T = TypeVar("_T")


class Session:
    """One run of a command. The settings are read when they are first used."""

    def __init__(self, config: Path | None, data: str | None, as_json: bool, *, as_owner: bool = True) -> None:
        """`as_owner`: whether root becomes the owner of the data folder before anything in that is read."""
        self._config = config
        self._data = data
        self._as_owner = as_owner
        self.as_json = as_json

    @property
    def config(self) -> Path | None:
        """The settings file; None where there is none. Raises SettingsError, Refused."""
        return self._read[0]

    @property
    def loaded(self) -> LoadedSettings:
        """The settings and their sources. Raises SettingsError, Refused."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Path | None, LoadedSettings]:
        """The settings file and what it holds: one that is given is read by the user who gives it, one that the data
        folder names by the owner of that."""
        config, data = file_of_command(self._config, self._data, os.environ, self._enter)
        loaded = load(config, os.environ, {"data": data})
        self._enter(loaded.settings.data)
        return config, loaded

    def _enter(self, data: Path) -> None:
        if self._as_owner:
            become_owner(data)

    @property
    def settings(self) -> Settings:
        """The settings. Raises SettingsError, Refused."""
        return self.loaded.settings

    @property
    def folder(self) -> CacheFolder:
        """Paths of the cache in the data folder, which must be this user's. Raises SettingsError, Refused."""
        require_owner(self.settings.data)
        return CacheFolder(self.settings.data)

    def load_for_server(self, flags: Mapping[str, object]) -> tuple[Path | None, Settings]:
        """Read the settings of a server, with further flags by names of settings, and the file that they come from,
        whatever another server uses. Raises SettingsError, Refused."""
        config = file_of_server(self._config, os.environ)
        settings = load(config, os.environ, {"data": self._data, **flags}).settings
        become_owner(settings.data)
        return config, settings

    def print(self, document: Document | Sequence[Document], for_people: Callable[[], None]) -> None:
        """Print the document if --json was given; else call `for_people`, which prints the same."""
        if self.as_json:
            print_json(document)
        else:
            for_people()

    async def print_pages(
        self,
        pages: AsyncGenerator[Sequence[_T], None],
        document_of: Callable[[_T], Document],
        columns: Sequence[str],
        row_of: Callable[[_T], Sequence[str]] | None = None,
    ) -> None:
        """Print a listing while its pages are read: one JSON array if --json was given, else a table.

        `columns`: names of values in the documents, or the headings of the rows that `row_of` makes.
        """
        now = datetime.now(UTC)
        names = columns if row_of else readable.headings(columns)
        make_row = row_of or (lambda entry: readable.row(document_of(entry), columns, now))
        async with aclosing(pages):
            if self.as_json:
                await print_json_pages(list(map(document_of, page)) async for page in pages)
            else:
                await print_table_pages(names, (list(map(make_row, page)) async for page in pages))


COMMAND_LINE = "(command line)"
"""Whom histories name for what a command did; no user has such a name."""


def given(value: _T | None, otherwise: _T) -> _T:
    """The value of an option, or what stays where it was not given."""
    return otherwise if value is None else value


def with_session(function: Callable[..., None], *, json: bool = True, as_owner: bool = True) -> Callable[..., None]:
    """Turn a function into a command with --config, --data and, if `json`, --json; errors become exit code 1.

    `as_owner`: as for Session.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}

    def run(config: Path | None = None, data: str | None = None, as_json: bool = False, **arguments: Any) -> None:
        for name, group in groups.items():
            arguments[name] = group(**{field.name: arguments.pop(field.name) for field in fields(group)})
        with refusals():
            function(Session(config, data, as_json, as_owner=as_owner), **arguments)

    own = [
        option
        for parameter in parameters
        for option in (
            _options_of(groups[parameter.name])
            if parameter.name in groups
            else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        )
    ]
    common = [_option("config", _CONFIG), _option("data", _DATA)]
    common += [_option("as_json", JsonOption, False)] if json else []
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in [*own, *common]}
    return run


def _options_of(group: type[Any]) -> list[inspect.Parameter]:
    """One parameter for each field of a dataclass, whose type determines how the option is written."""
    hints = get_type_hints(group, include_extras=True)
    return [
        _option(field.name, hints[field.name], inspect.Parameter.empty if field.default is MISSING else field.default)
        for field in fields(group)
    ]


def _option(name: str, annotation: object, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
