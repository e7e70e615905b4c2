"""Test of the mix of faults. Variables MIX_SECONDS, MIX_SEED, MIX_WORKERS, MIX_CLIENTS and MIX_DELAY change the run."""

import os
from pathlib import Path

import pytest

from tests.parts.registry import Registry

from .mix import Plan, run


@pytest.mark.long
def test_a_mix_of_faults_breaks_no_promise(scratch: Path, registry: Registry) -> None:
    plan = Plan(
        seconds=float(os.environ.get("MIX_SECONDS", "90")),
        seed=int(os.environ.get("MIX_SEED", "1")),
        workers=int(os.environ.get("MIX_WORKERS", "2")),
        clients=int(os.environ.get("MIX_CLIENTS", "20")),
        delay=float(os.environ.get("MIX_DELAY", "20")),
    )
    report = run(plan, scratch / "mix", registry)
    print(report.line())
    assert {rule: found for rule, found in report.violations.items() if found} == {}, report.line()
