"""Settings without effect: which there are, and that commands tell of them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli.idle_settings import OF_NEW_FOLDER, ProxyGroups, idle_settings
from gateway.settings.files import unusable_files
from gateway.settings.load import load
from tests.gateway.cli.terminal import Terminal

ACCOUNT = '[upstreams."quay.io"]\nusername = "ann"\npassword_file = "{file}"\n'


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A prompt whose settings have an account at quay.io."""
    made = Terminal(tmp_path)
    made.config.write_text(ACCOUNT.format(file=made.password(b"secret")))
    return made


def names(terminal: Terminal, known: ProxyGroups, more: str = "", **environ: str) -> list[str]:
    with terminal.config.open("a") as file:
        file.write(more)
    return [idle.name for idle in idle_settings(load(terminal.config, {}, {}).settings, environ, known)]


def test_an_account_has_an_effect_once_a_group_requires_a_login(terminal: Terminal) -> None:
    assert names(terminal, OF_NEW_FOLDER) == ['upstreams."quay.io".username']
    assert names(terminal, ProxyGroups(any_requires_login=True, listed=frozenset())) == []


@pytest.mark.parametrize(("listed", "idle"), [({"hub"}, []), (set(), ['upstreams."quay.io".groups'])])
def test_an_account_of_listed_groups_has_an_effect_once_one_of_them_exists(
    terminal: Terminal, listed: set[str], idle: list[str]
) -> None:
    known = ProxyGroups(any_requires_login=True, listed=frozenset(listed))
    assert names(terminal, known, 'groups = ["hub", "team"]\n') == idle


def test_an_outbound_proxy_of_the_environment_has_none(terminal: Terminal) -> None:
    known = ProxyGroups(any_requires_login=True, listed=frozenset())
    assert names(terminal, known, https_proxy="http://proxy:3128", HTTPS_PROXY="") == ["https_proxy"]


def test_the_check_of_settings_tells_of_them_also_where_there_is_no_data_folder(terminal: Terminal) -> None:
    code, out, err = terminal.run("config", "check")
    assert (code, out.partition(":")[0], err.count("\n")) == (0, "the settings are valid", 1)
    assert "warning: no group uses account ann" in err
    assert not terminal.data.exists()
    terminal.done("group", "create", "team")
    assert "no group uses account" not in terminal.run("config", "check")[2]
    terminal.done("group", "delete", "team")
    assert "no group uses account ann" in terminal.run("config", "check")[2]
    checks = {check["name"]: check for check in json.loads(terminal.run("doctor", "--json")[1])}
    assert checks['setting upstreams."quay.io".username']["ok"] is True
    assert "group create NAME" in checks['setting upstreams."quay.io".username']["remedy"]


def test_an_account_is_listed_before_its_upstream_states_a_limit(terminal: Terminal) -> None:
    terminal.done("group", "create", "team")
    listed = [(quota["upstream"], quota["credential"], quota["state"]) for quota in terminal.json("quota")]
    assert listed == [("docker.io", "anonymous", "unknown"), ("quay.io", "upstream:quay.io:ann", "unknown")]


def test_the_check_of_settings_fails_for_a_password_that_is_missing(terminal: Terminal) -> None:
    (terminal.folder / "password").unlink()
    refused = terminal.refused("config", "check")
    assert refused.startswith('upstreams."quay.io".password_file = ')
    assert "there is no such file" in refused


FILES = """metrics_token_file = "{folder}/metrics"
tls_cert = "{folder}/tls"
tls_key = "{folder}/tls"
[database]
url = "postgresql://ann@127.0.0.1/a"
password_file = "{folder}/database"
[upstreams."quay.io"]
ca_file = "{folder}/ca"
client_cert = "{folder}/client"
client_key = "{folder}/client"
headers = {{"X-Key" = "file:{folder}/header", "X-Other" = "value"}}
"""


def test_every_file_that_a_setting_names_is_looked_for(tmp_path: Path) -> None:
    config = tmp_path / "files.toml"
    config.write_text(FILES.format(folder=tmp_path))
    settings = load(config, {}, {}).settings
    assert {file.setting for file in unusable_files(settings)} == {
        *("tls_cert", "tls_key", "metrics_token_file", "database.password_file"),
        *(f'upstreams."quay.io".{name}' for name in ("ca_file", "client_cert", "client_key", "headers.X-Key")),
    }
    for name in ("metrics", "tls", "database", "ca", "client", "header"):
        (tmp_path / name).touch()
    assert unusable_files(settings) == []
    (tmp_path / "ca").unlink()
    (tmp_path / "ca").mkdir()
    [folder] = unusable_files(settings)
    assert (folder.reason, folder.path) == ("it is a folder", tmp_path / "ca")


def test_doctor_fails_for_a_file_that_is_missing(terminal: Terminal) -> None:
    (terminal.folder / "password").unlink()
    checks = {check["name"]: check for check in json.loads(terminal.run("doctor", "--json")[1])}
    found = checks['setting upstreams."quay.io".password_file']
    assert (found["ok"], found["detail"].endswith("there is no such file")) == (False, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[listener]]\nport = 8080\n", "port 8080 is taken: that is the main address"),
        ('port = 8081\nhost = "0.0.0.0"\nexternal_url = "http://a.test"\n[[listener]]\nport = 8081\n', "main address"),
        ("[[listener]]\nport = 81\n[[listener]]\nport = 81\n", "port 81 is taken: that is another listener"),
    ],
)
def test_a_listener_on_an_address_that_is_taken_is_refused(terminal: Terminal, text: str, said: str) -> None:
    terminal.config.write_text(text)
    assert said in terminal.refused("config", "check")


def test_listeners_have_free_ports_or_other_addresses(terminal: Terminal) -> None:
    terminal.config.write_text("port = 0\n[[listener]]\nport = 0\n[[listener]]\nport = 0\n")
    terminal.done("config", "check")
    terminal.config.write_text('[[listener]]\nhost = "127.0.0.2"\nport = 8080\n')
    terminal.done("config", "check")


@pytest.mark.parametrize("glob", ["v[", "v[]", "[!]", "v[1"])
def test_a_glob_of_tags_that_cannot_match_is_refused(terminal: Terminal, glob: str) -> None:
    terminal.config.write_text(f'[[cache.rules]]\ntags = "{glob}"\nttl = "1d"\n')
    assert "cache.rules" in terminal.refused("config", "check")


def test_a_new_group_tells_who_may_pull_through_it(terminal: Terminal) -> None:
    assert "nobody but administrators can pull through it yet" in terminal.done("group", "create", "team")
    opened = terminal.done("group", "create", "open", "--visibility", "public", "--anonymous-pull")
    assert "nobody" not in opened
    terminal.done("user", "create", "ann", "--password-file", terminal.password(b"a good password 1"))
    terminal.done("member", "add", "team", "ann", "guest")
    assert "nobody" not in terminal.done("group", "create", "team/images")


@pytest.mark.parametrize(
    "let_in",
    [
        ["member add team ann guest"],
        ["member add team/images ann guest"],
        ["deploy-token create --group team --scope read_registry --name d"],
        ["project create team/images/app", "member add team/images/app ann developer"],
        [
            "project create team/images/app",
            "deploy-token create --project team/images/app --scope read_registry --name d",
        ],
        ["group update team --visibility public", "group update team/images --visibility public --anonymous-pull"],
        ["group update team/images --no-proxy"],
    ],
)
def test_a_group_that_nobody_can_pull_from_yet_is_told_of(terminal: Terminal, let_in: list[str]) -> None:
    terminal.config.write_text("")
    terminal.done("user", "create", "ann", "--password-file", terminal.password(b"a good password 1"))
    terminal.done("group", "create", "team", "--no-proxy")
    terminal.done("group", "create", "team/images")
    warning = "warning: nobody but administrators can pull through team/images yet: add members"
    assert warning in terminal.run("config", "check")[2]
    assert warning in terminal.run("cache", "explain", "alpine", "--group", "team/images")[2]
    assert terminal.run("cache", "explain", "alpine")[2] == ""
    checks = {check["name"]: check for check in json.loads(terminal.run("doctor", "--json")[1])}
    assert "member add team/images USER guest" in checks["group team/images"]["remedy"]
    for words in let_in:
        terminal.done(*words.split())
    assert terminal.run("config", "check")[2] == ""


def test_a_revoked_token_lets_nobody_in(terminal: Terminal) -> None:
    terminal.config.write_text("")
    terminal.done("group", "create", "team")
    terminal.done("deploy-token", "create", "--group", "team", "--scope", "read_registry", "--name", "d")
    assert terminal.run("config", "check")[2] == ""
    terminal.done("deploy-token", "revoke", "1")
    assert "through team yet" in terminal.run("config", "check")[2]


def test_an_explanation_begins_with_the_account_that_no_group_uses(terminal: Terminal) -> None:
    terminal.done("group", "create", "team", "--no-proxy")
    assert "no group uses account ann" in terminal.run("cache", "explain", "quay.io/a/b")[2]
    assert terminal.run("cache", "explain", "alpine")[2] == ""


def test_doctor_tells_why_nothing_is_collected(terminal: Terminal) -> None:
    terminal.done("group", "create", "team")

    def found(stopped_at: str | None) -> tuple[bool | None, str, str]:
        stop = "UPDATE collection SET stopped_at = ?, stopped_reason = 'the clock jumped'"
        with closing(sqlite3.connect(terminal.data / "gateway.db")) as connection, connection:
            connection.execute(stop, [stopped_at])
        assert terminal.json("gc", "status")["stopped_reason"] == "the clock jumped"
        checks = {check["name"]: check for check in json.loads(terminal.run("doctor", "--json")[1])}
        check = checks["garbage collection"]
        return check["ok"], check["detail"], check["remedy"]

    names = {check["name"] for check in json.loads(terminal.run("doctor", "--json")[1])}
    assert "garbage collection" not in names
    ok, detail, remedy = found("2026-03-04 05:06:07.000000")
    assert (ok, detail) == (False, "nothing is collected, and the disk fills: the clock jumped")
    assert "`registry-gateway gc run --yes`" in remedy
    ok, detail, remedy = found(None)
    assert (ok, detail) == (True, "nothing is collected for now: the clock jumped")
    assert "goes on by itself" in remedy
