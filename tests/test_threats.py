"""The table of threats is held to the code and the tests."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.faults.table import FAULTS
from tests.threats import PAGE, ROOT, THREATS, Threat, page


def test_the_page_is_written_from_the_table() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("threat", [pytest.param(t, id=t.name) for t in THREATS if t.disarm])
def test_what_is_taken_away_stands_once_in_the_code(threat: Threat) -> None:
    assert threat.disarm
    assert (ROOT / threat.disarm.file).read_text().count(threat.disarm.old) == 1


@pytest.mark.parametrize("node", sorted({node for row in (*THREATS, *FAULTS) for node in row.tests}))
def test_every_test_that_is_named_exists(node: str) -> None:
    file, _, name = node.partition("::")
    assert (ROOT / file).is_file()
    assert not name or name in names_in(ROOT / file)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the functions and classes of a module."""
    return frozenset(n.name for n in ast.walk(ast.parse(path.read_text())) if hasattr(n, "name"))
