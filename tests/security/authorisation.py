"""Reader of authorisation.toml: what each cell of it says about one request, as status, code and words."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path

ACTIONS = ("pull", "push", "delete")
ABSENT = "absent"
_FILE = Path(__file__).with_suffix(".toml")


class Outcome(StrEnum):
    """A word of the table; its head says what each means."""

    YES = "yes"
    DENIED = "denied"
    HIDDEN = "hidden"
    LOGIN = "login"
    REFUSED = "refused"


Cells = Mapping[tuple[str, str], Outcome]
"""Outcomes by row and column."""


@dataclass(frozen=True)
class Table:
    """The whole table. `cells`: by section and action; `scopes`: the actions that each scope of a person covers.
    `catalog`: methods, the action that shows a repository, and the scope of a token. `gitlab`: the action that shows a
    repository, and the paths, with whether each needs what lies below it."""

    cells: Mapping[tuple[str, str], Cells]
    routes: Mapping[tuple[str, str], str]
    scopes: Mapping[str, frozenset[str]]
    catalog: tuple[tuple[str, ...], str, str]
    gitlab: tuple[str, Mapping[str, bool]]

    def rows(self, section: str) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.cells[section, "pull"]))

    def columns(self, section: str) -> list[str]:
        return list(dict.fromkeys(column for _, column in self.cells[section, "pull"]))


@cache
def read_table() -> Table:
    document = tomllib.loads(_FILE.read_text())
    routes = {_route(text): action for action in ACTIONS for text in document["routes"][action]}
    scopes = {scope: frozenset(actions) for scope, actions in document["personal"].items()}
    sections = [("people", ACTIONS), ("deploy", ACTIONS), ("job", ACTIONS), ("proxy", ("pull",))]
    cells = {(name, action): parse_cells(document[name][action]) for name, actions in sections for action in actions}
    catalog, gitlab = document["catalog"], document["gitlab"]
    paths = {path: width == "wide" for width in ("narrow", "wide") for path in gitlab[width]}
    return Table(
        cells,
        routes,
        scopes,
        (tuple(catalog["routes"]), catalog["shows"], catalog["scope"]),
        (gitlab["shows"], paths),
    )


def _route(text: str) -> tuple[str, str]:
    method, kind = text.split()
    return kind, method


def parse_cells(text: str) -> Cells:
    """Read a table of outcomes, whose first line names the columns."""
    head, *rows = [line.split() for line in text.splitlines() if line.strip()]
    for row in rows:
        assert len(row) == len(head) + 1, f"the row {row[0]} has not the columns of its table"
    return {(row[0], column): Outcome(word) for row in rows for column, word in zip(head, row[1:], strict=True)}


@dataclass(frozen=True)
class Party:
    """One credential, or none, and where the table has its cells.

    `section`: of its cells at projects; `column`: there, unless `own` names another for a row. `scopes`: of a personal
    token, else None. `relation`: its row in the table of dependency proxies, at the groups that it is asked about.
    `thorough`: every route is tried in every scheme, and not one route for each action.
    """

    label: str
    username: str = ""
    secret: str = field(default="", repr=False)
    section: str = "people"
    column: str = ""
    own: Mapping[str, str] = field(default_factory=dict)
    scopes: frozenset[str] | None = None
    thorough: bool = False

    @property
    def anonymous(self) -> bool:
        return not self.secret

    def expected(self, row: str, action: str) -> Outcome:
        """The outcome of an action at a project."""
        table = read_table()
        outcome = table.cells[self.section, action][row, self.own.get(row, self.column)]
        if outcome is not Outcome.YES or self.scopes is None:
            return outcome
        everybody = table.cells["people", action][row, "anonymous"] is Outcome.YES
        covered = any(action in table.scopes[scope] for scope in self.scopes)
        return Outcome.YES if everybody or covered else Outcome.DENIED


@dataclass(frozen=True)
class ProxyParty:
    """One credential at the dependency proxy of one group: its row and its column in the table."""

    row: str
    group: str
    username: str = ""
    secret: str = field(default="", repr=False)

    @property
    def label(self) -> str:
        return f"{self.row} at {self.group}"

    @property
    def anonymous(self) -> bool:
        return not self.secret

    def expected(self) -> Outcome:
        """The outcome of a pull."""
        return read_table().cells["proxy", "pull"][self.row, self.group]
