"""Allocator: freed documents are given back to the system, whatever lies between them."""

import subprocess
import sys

import pytest

from tests.parts.gateway import ROOT
from tests.parts.processes import plain_environment

DOCUMENTS = 48
MIB = 1024 * 1024

FREES_DOCUMENTS = f"""
import sys
from gateway.processes.allocator import keep_little_memory
from tests.parts.holdings import resident

if sys.argv[1] == "keeps little":
    keep_little_memory()
largest = b"x" * (4 * {MIB})
del largest
before = resident("self")
documents, kept = [], []
for _ in range({DOCUMENTS}):
    documents.append(b"x" * {MIB})
    kept.append(b"x" * 10_000)
del documents
print(resident("self") - before)
"""


@pytest.mark.parametrize("how", ["keeps little", "as it is"])
def test_freed_documents_are_given_back(how: str, processes: None) -> None:
    environment = plain_environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", FREES_DOCUMENTS, how], env=environment, capture_output=True, text=True, check=True
    )
    kept = int(done.stdout)
    if how == "as it is":  # or else the test shows nothing
        assert kept > DOCUMENTS * MIB // 2
    else:
        assert kept < DOCUMENTS * MIB // 8
