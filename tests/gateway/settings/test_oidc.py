"""Settings of issuers of ID tokens: what is taken, and what is refused with its reason."""

import json
from pathlib import Path

import pytest

from gateway.settings.files import unusable_files
from gateway.settings.load import SettingsError, load, rows
from gateway.settings.reload import changed

ISSUER = '[oidc.github]\nissuer = "https://ci.example.com"\naudience = "https://registry.example.com"\n'
RULE = '[[oidc.github.rule]]\nclaims = {repository = "acme/app"}\nproject = "team/app"\nrole = "developer"\n'


def load_text(folder: Path, text: str, **environ: str) -> object:
    file = folder / "gateway.toml"
    file.write_text(text)
    return load(file, environ, {})


def problems(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load_text(folder, text)
    return "\n".join(refused.value.problems)


def test_an_issuer_has_its_rules_in_their_order(tmp_path: Path) -> None:
    group = '[[oidc.github.rule]]\nclaims = {ref = "refs/tags/*", protected = "true"}\nuser = "ada"\n'
    file = tmp_path / "gateway.toml"
    file.write_text(ISSUER + 'login = "30m"\n' + RULE + group)
    loaded = load(file, {}, {})
    issuer = loaded.settings.oidc["github"]
    assert issuer.login.total_seconds() == 1800 and issuer.max_age.days == 1
    assert [(rule.project, rule.role, rule.user) for rule in issuer.rule] == [
        ("team/app", "developer", ""),
        ("", None, "ada"),
    ]
    shown = {row.name: row for row in rows(loaded)}
    assert shown["oidc.github.issuer"].value == "https://ci.example.com"
    assert shown["oidc.github.login"].source == f"file {file}"
    first = {"claims": {"repository": "acme/app"}, "project": "team/app", "role": "developer"}
    rest = {"user": "", "group": "", "account": False}
    assert json.loads(json.dumps(shown["oidc.github.rule"].value))[0] == first | rest


def test_people_sign_in_by_a_client_and_a_rule_for_accounts(tmp_path: Path) -> None:
    rule = '[[oidc.github.rule]]\nclaims = {groups = "staff"}\naccount = true\n'
    client = f'client_id = "registry"\nclient_secret_file = "{tmp_path / "secret"}"\n'
    loaded = load_text(tmp_path, ISSUER + client + rule)
    issuer = loaded.settings.oidc["github"]  # type: ignore[attr-defined]
    assert (issuer.client_id, issuer.rule[0].account) == ("registry", True)
    assert [file.setting for file in unusable_files(loaded.settings)] == ["oidc.github.client_secret_file"]  # type: ignore[attr-defined]


def test_an_issuer_is_set_by_variables_too(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("")
    environ = {
        "GATEWAY_OIDC__CI__ISSUER": "https://ci.example.com",
        "GATEWAY_OIDC__CI__AUDIENCE": "registry",
        "GATEWAY_OIDC__CI__RULE": json.dumps([{"claims": {"sub": "job"}, "user": "ada"}]),
    }
    assert load(file, environ, {}).settings.oidc["ci"].rule[0].user == "ada"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[oidc.github]\nissuer = "https://ci.example.com"\n', "oidc.github.audience (file"),
        ('[oidc.github]\naudience = "a"\n', "oidc.github.issuer (file"),
        (ISSUER.replace("https://ci", "http://ci"), "must be an https URL"),
        (ISSUER.replace("ci.example.com", "user@ci.example.com"), "must be an https URL"),
        (ISSUER.replace('"https://registry.example.com"', '""'), "must be a text that is not empty"),
        (ISSUER.replace("github", "Git_Hub"), "the name of an issuer must be"),
        (ISSUER + 'login = "2d"\n', "from 1m to 1d"),
        (ISSUER + 'login = "1s"\n', "from 1m to 1d"),
        (ISSUER + 'max_age = "0s"\n', "from 1m to 1d"),
        (ISSUER + 'secret = "x"\n', "there is no such setting"),
        (ISSUER + RULE.replace('"acme/app"', '"*"'), "a rule needs a claim that says more than *"),
        (ISSUER + RULE.replace('{repository = "acme/app"}', "{}"), "a rule needs a claim that says more than *"),
        (ISSUER + RULE.replace('role = "developer"', ""), "a rule has a user, or"),
        (ISSUER + RULE + 'user = "ada"\n', "a rule has a user, or"),
        (ISSUER + RULE + 'group = "team"\n', "a rule has a user, or"),
        (ISSUER + RULE + "account = true\n", "a rule has a user, or"),
        (ISSUER + RULE.replace("developer", "king"), "each with claims"),
        (ISSUER + RULE.replace('"acme/app"', "7"), "each with claims"),
        (ISSUER + ISSUER.replace("github", "other"), "two tables have the same issuer"),
    ],
)
def test_what_lets_in_nobody_or_everybody_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in problems(tmp_path, text)


def test_a_changed_rule_and_an_issuer_that_came_are_told(tmp_path: Path) -> None:
    texts = "", ISSUER + RULE, ISSUER + RULE.replace("developer", "guest")
    loaded = []
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        loaded.append(load(file, {}, {}).settings)
    assert changed(loaded[0], loaded[1]) == ["oidc.github"]
    assert changed(loaded[1], loaded[2]) == ["oidc.github.rule"]
