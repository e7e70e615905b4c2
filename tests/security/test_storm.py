"""Storm of hostile pullers and pushers and a lying upstream, three in a row: nothing wrong, foreign or left over.

STORM_SECONDS in the environment makes each of them longer.
"""

import os
from pathlib import Path

import pytest

from tests.parts.certs import Authority

from .storm import StormPlan, run


@pytest.mark.long
def test_storms_leave_nothing_behind(scratch: Path, authority: Authority, processes: None) -> None:
    seconds = float(os.environ.get("STORM_SECONDS", StormPlan.seconds))
    outcome = run(StormPlan(seconds), scratch, authority)
    print(outcome.line())
    assert outcome.wrong == {}, outcome.line()
    assert outcome.right > 0
    assert outcome.failed > 0
    assert outcome.appended > 0
