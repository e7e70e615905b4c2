"""The conformance suite of the OCI distribution specification: a program that checks a registry, and its report.

It exits with 0 on a setting that it does not understand, having checked nothing: so the checks that ran are counted.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

from tests.parts.go_clients import CONFORMANCE, build_go_client
from tests.parts.processes import plain_environment

LONGEST_RUN = 600


@dataclass(frozen=True)
class Check:
    """One check of the suite. `output`: the requests and responses that it consists of."""

    name: str
    status: str
    output: str


@dataclass(frozen=True)
class Report:
    """The checks that ran, without those that only sum up others; `printed`: what the suite printed."""

    checks: Sequence[Check]
    exit_status: int
    printed: str

    def names(self, status: str) -> list[str]:
        """Names of the checks that ended with a status, in their order."""
        return [check.name for check in self.checks if check.status == status]

    def explain_failures(self) -> str:
        """What the first checks that failed have sent and received."""
        failed = [check for check in self.checks if check.status not in ("passed", "skipped")]
        return "\n".join([self.printed[-2000:], *(f"{check.name}\n{check.output[-4000:]}" for check in failed[:3])])


def run_suite(host: str, project: str, login: tuple[str, str], version: str, directory: Path) -> Report:
    """Check a registry at HOST:PORT over plain HTTP, in two new repositories of a project. Raises PartFailed.

    `login`: user name and secret. `version`: of the specification, as the suite names it.
    """
    program, repository = build_go_client(CONFORMANCE), f"{project}/{uuid4().hex[:12]}"
    settings = {
        "OCI_REGISTRY": host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": f"{repository}/one",
        "OCI_REPO2": f"{repository}/two",
        "OCI_USERNAME": login[0],
        "OCI_PASSWORD": login[1],
        "OCI_VERSION": version,
        "OCI_RESULTS_DIR": str(directory),
    }
    ran = subprocess.run(
        [program],
        env=plain_environment(**settings),
        cwd=directory.parent,
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    return Report(_read_checks(directory / "junit.xml"), ran.returncode, ran.stdout + ran.stderr)


def _read_checks(file: Path) -> list[Check]:
    """The leaves of the suite's tree of checks: its inner nodes repeat what their leaves say."""
    cases = list(ElementTree.parse(file).iter("testcase")) if file.exists() else []
    names = [case.get("name", "").split("/") for case in cases]
    inner = {"/".join(name[:length]) for name in names for length in range(1, len(name))}
    return [
        Check(name, case.get("status", ""), "\n".join(text.strip() for text in case.itertext()))
        for case in cases
        if (name := case.get("name", "")) not in inner
    ]
