"""`quota`: by which names it calls the accounts whose limits upstreams have stated."""

from dataclasses import replace
from time import time

from cache.upstream.ledger import Ledger
from cache.upstream.urls import registry_of
from cache.values import CredentialId, Source
from gateway.data_folder import CacheFolder
from tests.gateway.cli.terminal import Terminal

HUB = registry_of("https://registry-1.docker.io")
TEAM = 2
"""Id of the group that is made after `hub`."""


def test_an_account_of_a_group_is_shown_by_its_name_and_the_path_of_the_group(terminal: Terminal) -> None:
    login = ("--upstream-username", "ada", "--upstream-password-file", terminal.password(b"secret"))
    terminal.done("group", "create", "team", *login)
    ledger = Ledger(CacheFolder(terminal.data).quota)
    for credential in (CredentialId("ada", TEAM), CredentialId("bob", upstream="docker.io"), CredentialId()):
        ledger.note(Source.at(HUB, credential), lambda known: replace(known, limit=100, remaining=97, told_at=time()))
    ledger.flush()
    found = {row["account"]: (row["credential"], row["group"]) for row in terminal.json("quota")}
    assert found == {
        "ada": (f"group:{TEAM}:ada", "team"),
        "anonymous": ("anonymous", None),
        "bob": ("upstream:docker.io:bob", None),
    }
    heading, *rows = terminal.done("quota").splitlines()
    assert heading.split()[:3] == ["Upstream", "Account", "Group"]
    assert [row.split()[:3] for row in rows if row.startswith("docker.io")] == [
        ["docker.io", "anonymous", "-"],
        ["docker.io", "ada", "team"],
        ["docker.io", "bob", "-"],
    ]
    terminal.done("group", "delete", "team")
    assert [row["group"] for row in terminal.json("quota") if row["account"] == "ada"] == ["deleted"]
