"""Test of pairs of faults on one digest, without other faults, and of their names in the table."""

from pathlib import Path

import pytest

from tests.parts.registry import Registry

from .ledger import Deed
from .mix import Plan, run
from .pairs import PAIRS
from .table import FAULTS

SECONDS = 20.0


def test_every_pair_has_its_row_in_the_table() -> None:
    assert set(PAIRS) <= {fault.name for fault in FAULTS}


@pytest.mark.long
def test_each_pair_of_faults_breaks_no_promise(scratch: Path, registry: Registry) -> None:
    plan = Plan(
        SECONDS, seed=1, clients=6, faults=0, pushers=0, deeds={Deed.PAIR: 1}, between=(0.0, 0.2), every_pair=True
    )
    report = run(plan, scratch / "pairs", registry)
    print(report.line())
    assert {rule: found for rule, found in report.violations.items() if found} == {}, report.line()
    assert set(report.figures["pairs"]) == set(PAIRS)
