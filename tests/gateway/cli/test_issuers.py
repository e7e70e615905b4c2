"""Commands that know of issuers of ID tokens: the check of settings, doctor, and the explanation of access."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.db.engine import Database
from gateway.directory.id_token_logins import IdTokenLoginAdministration
from gateway.doctor.issuers import examine_issuers
from gateway.namespaces.credentials import IdTokenLogin
from gateway.namespaces.node import NodeKind
from gateway.namespaces.role import Role
from gateway.settings.tables import OidcSettings
from gateway.wiring.oidc import issuer_client
from tests.gateway.cli.terminal import Terminal
from tests.parts.certs import Authority
from tests.parts.issuer import Issuer

RULES = """
[oidc.ci]
issuer = "https://ci.example.com"
audience = "https://registry.example.com"
[[oidc.ci.rule]]
claims = {sub = "a"}
project = "team/app"
role = "developer"
[[oidc.ci.rule]]
claims = {sub = "b"}
group = "team/app"
role = "guest"
[[oidc.ci.rule]]
claims = {sub = "c"}
user = "nobody"
[[oidc.ci.rule]]
claims = {sub = "d"}
user = "boss"
[[oidc.ci.rule]]
claims = {sub = "e"}
user = "ada"
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    made = Terminal(tmp_path)
    made.done("group", "create", "team")
    made.done("project", "create", "team/app")
    made.done("user", "create", "boss", "--admin")
    made.done("user", "create", "ada")
    return made


def test_the_check_of_settings_names_rules_that_let_nobody_in(terminal: Terminal) -> None:
    terminal.config.write_text(RULES)
    code, _, told = terminal.run("config", "check")
    assert code == 0
    assert [number for number in range(1, 6) if f"rule {number} of issuer ci lets nobody in" in told] == [2, 3, 4]
    assert "there is no group 'team/app'" in told and "there is no user 'nobody'" in told
    assert "user 'boss' is an administrator" in told


async def login(terminal: Terminal, role: Role) -> IdTokenLogin:
    now = datetime.now(UTC)
    async with Database.open(terminal.data / "gateway.db") as database:
        wanted = IdTokenLogin(0, "ci", "job 7", 0, "rule", now, now + timedelta(hours=1))
        began = IdTokenLoginAdministration(database, lambda: now)
        made, _ = await began.begin_with_role(wanted, "token", "replay", "team/app", NodeKind.PROJECT, role)
    return made


def test_a_login_is_listed_and_ended(terminal: Terminal) -> None:
    made = asyncio.run(login(terminal, Role.REPORTER))
    [listed] = terminal.json("id-token", "list")
    assert (listed["id"], listed["issuer"], listed["subject"], listed["state"]) == (made.id, "ci", "job 7", "active")
    assert listed["user"].endswith("_reporter")
    revoked = terminal.json("id-token", "revoke", str(made.id))
    assert revoked["state"] == "expired" and terminal.json("id-token", "list") == []
    assert terminal.json("id-token", "list", "--all") == [revoked]
    assert "there is no login by an ID token 99" in terminal.refused("id-token", "revoke", "99")
    [event] = terminal.json("audit", "list", "--event", "revoke")
    assert event["path"] == listed["user"]
    assert f"login {made.id} by an ID token of ci" in json.dumps(event)


def test_what_a_login_may_do_is_explained(terminal: Terminal) -> None:
    made = asyncio.run(login(terminal, Role.REPORTER))
    explained = terminal.json("access", "explain", "pull", "team/app", "--token", f"oidc:{made.id}")
    assert explained["allowed"] is True and f"ID token login {made.id} of ci (job 7)" in explained["reason"]
    refused = terminal.refused("access", "explain", "push", "team/app", "--token", f"oidc:{made.id}")
    assert "is reporter of project 'team/app'" in refused
    assert "by an ID token" in terminal.refused("access", "explain", "pull", "team/app", "--token", "oidc:99")
    code, out, _ = terminal.run("access", "explain", "pull", "team/app", "--token", "-", stdin="token\n")
    assert code == 0 and "may pull" in out


def test_an_owner_by_a_rule_may_not_administer(terminal: Terminal) -> None:
    made = asyncio.run(login(terminal, Role.OWNER))
    token = ("--token", f"oidc:{made.id}")
    assert terminal.json("access", "explain", "delete", "team/app", *token)["allowed"] is True
    assert "no login by an ID token may" in terminal.refused("access", "explain", "admin", "team/app", *token)


@pytest.fixture
def issuer(authority: Authority) -> Iterator[Issuer]:
    issuer = Issuer(authority).start()
    yield issuer
    issuer.stop()


async def test_doctor_asks_an_issuer_for_its_keys(issuer: Issuer) -> None:
    settings = OidcSettings.model_validate(issuer.settings())
    [good] = await examine_issuers({"ci": issuer_client(settings)}, frozenset())
    assert (good.ok, good.name, good.detail) == (True, "issuer ci", f"{issuer.url} has 1 key")
    [idle] = await examine_issuers({"ci": issuer_client(settings)}, frozenset({"ci"}))
    assert idle.ok and "no rule" in idle.detail
    issuer.published = []
    [bad] = await examine_issuers({"ci": issuer_client(settings)}, frozenset())
    assert bad.ok is False and "no key" in bad.detail and "ca_file" in str(bad.remedy)
