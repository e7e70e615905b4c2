"""Our server passes every check of the conformance suite, with two workers that share its requests."""

import pytest

from tests.conformance.suite import run_suite
from tests.conftest import GatewayFactory
from tests.parts.canaries import remember
from tests.parts.commands import Commands

pytestmark = [pytest.mark.processes, pytest.mark.long]

PROJECT = "conformance/app"

CHECKS = {"1.1": 687, "dev": 787}
"""How many checks pass at least: what a complete registry reached when the suite was chosen."""

LEFT_OPEN = {
    "1.1": {"blob-post-cancel", "range 500-0"},
    "dev": {"range 500-0"},
}
"""Checks of what the specification leaves open: the end of an upload in 1.1, and a range that ends before it begins,
instead of which the whole blob is sent (RFC 9110, section 14.1.1)."""


@pytest.mark.parametrize("version", CHECKS)
def test_every_check_of_the_suite_passes(version: str, gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2})
    assert len(server.workers) == 2
    commands = Commands(server.config_file, server.data)
    commands.run("group", "create", "conformance")
    commands.run("project", "create", PROJECT)
    commands.run("user", "create", "checker")
    commands.run("member", "add", PROJECT, "checker", "maintainer")
    token = commands.json("token", "create", "--user=checker", "--name=suite", "--scope=write_registry")["token"]
    report = run_suite(server.host, PROJECT, ("checker", remember(token)), version, server.directory / "results")
    assert report.names("passed"), report.printed[-2000:]
    assert not {check.status for check in report.checks} - {"passed", "skipped"}, report.explain_failures()
    assert report.exit_status == 0
    assert len(report.names("passed")) >= CHECKS[version]
    assert {name.rpartition("/")[2] for name in report.names("skipped")} == LEFT_OPEN[version]
