"""The protocol description of cache.download, held to the code."""

import cache.download
from cache.download.leased_spool import LEASES, NOTE
from cache.download.progress import FlightState
from cache.store.base import sendable
from cache.store.sidecar import FillState
from cache.store.spool import MARK, PART

TEXT = cache.download.__doc__ or ""


def section(title: str) -> str:
    """Text under a title, up to the next one."""
    _, _, rest = TEXT.partition(f"\n{title}\n---")
    return rest.split("\n---")[0]


def test_the_table_of_states_has_a_row_for_each_state_and_names_no_other() -> None:
    rows = [line.split() for line in section("States and events").splitlines() if line.startswith("    ")]
    rows = [row for row in rows if row[0].isupper()]
    assert [row[0] for row in rows] == [state.name for state in FlightState]
    named = {word for row in rows for word in row if word.isupper()}
    assert named <= {state.name for state in FlightState}


def test_the_files_are_called_as_the_code_calls_them() -> None:
    files = section("Files")
    assert f"    {LEASES} " in files
    assert f"    NAME{PART} " in files
    assert f"    NAME{PART}{NOTE} " in files


def test_what_is_named_exists() -> None:
    assert f"mode 0{MARK:o}" in TEXT
    assert f"cache.store.base.{sendable.__name__}" in TEXT
    assert {"STREAMING", "LEAVING", "FAILED", "WAITING"} == {state.name for state in FillState}
