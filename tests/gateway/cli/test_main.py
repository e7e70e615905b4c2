"""Commands as they are typed: what they print, what they refuse, and with which exit code."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cache.policy.gate import Gate
from gateway.cli.gate_options import GateOptions
from gateway.keys.sealing import KEY_FILE
from gateway.namespaces.group import new_group
from gateway.processes import supervisor
from gateway.processes.errors import CannotStart
from gateway.settings.tables import Settings
from tests.gateway.cli.terminal import Terminal
from tests.parts.commands import invoke

REPOSITORY = Path(__file__).parents[3]


# group


def test_create_makes_the_folder_with_the_hub_in_it(terminal: Terminal) -> None:
    created, note = terminal.done("group", "create", "ci").splitlines()
    assert created == "created group ci: private, dependency proxy on, default upstream docker.io"
    assert "member add ci USER guest" in note
    assert terminal.data.stat().st_mode & 0o777 == 0o700
    ci, hub = terminal.json("group", "list")
    assert hub["created_at"] <= ci["created_at"]
    assert [{k: v for k, v in group.items() if k != "created_at"} for group in (ci, hub)] == [
        {
            "id": 2,
            "path": "ci",
            "visibility": "private",
            "proxy": {
                "enabled": True,
                "anonymous_pull": False,
                "default_upstream": "docker.io",
                "upstream_username": None,
                "fresh_only": False,
            },
            "gate": None,
            "quota": None,
            "as_of": None,
        },
        {
            "id": 1,
            "path": "hub",
            "visibility": "public",
            "proxy": {
                "enabled": True,
                "anonymous_pull": True,
                "default_upstream": "docker.io",
                "upstream_username": None,
                "fresh_only": False,
            },
            "gate": None,
            "quota": None,
            "as_of": None,
        },
    ]


def test_a_data_folder_that_nobody_named_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = invoke(["group", "create", "a", "--json"]), invoke(["group", "create", "b", "--json"])
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert f"made data folder {tmp_path / 'registry-data'}, which no server uses yet" in first.stderr
    assert "made data folder" not in second.stderr


def test_every_option_of_a_group_can_be_chosen_and_changed(terminal: Terminal) -> None:
    login = ("--upstream-username", "u", "--upstream-password-file", terminal.password(b"s3cret\r\n"))
    chosen = terminal.json(
        *("group", "create", "open", "--visibility", "public", "--anonymous-pull", "--default-upstream", "quay.io"),
        *login,
    )
    assert chosen["visibility"] == "public"
    assert chosen["proxy"] == {
        "enabled": True,
        "anonymous_pull": True,
        "default_upstream": "quay.io",
        "upstream_username": "u",
        "fresh_only": False,
    }
    changed = terminal.json(
        *("group", "update", "open", "--visibility", "internal", "--no-proxy", "--no-anonymous-pull"),
        *("--default-upstream", "docker.io", "--upstream-username", ""),
    )
    assert changed == terminal.json("group", "show", "open")
    assert changed["visibility"] == "internal"
    assert changed["proxy"] == {
        "enabled": False,
        "anonymous_pull": False,
        "default_upstream": "docker.io",
        "upstream_username": None,
        "fresh_only": False,
    }
    assert terminal.json("group", "update", "open") == changed


def test_the_gate_of_a_group_is_chosen_changed_and_opened_again(terminal: Terminal) -> None:
    digest = f"sha256:{'a' * 64}"
    gate = terminal.json(
        *("group", "create", "g", "--allow", "library/*", "--allow", "quay.io/acme/*", "--deny", "*/evil"),
        *("--cooldown", "3d", "--cooldown-action", "refuse", "--trust-created"),
        *("--pin", f"alpine:3.20={digest}", "--pin", f"quay.io/acme/app:v1={digest}"),
    )["gate"]
    assert gate == {
        "allow": ["library/*", "quay.io/acme/*"],
        "deny": ["*/evil"],
        "cooldown_seconds": 259_200,
        "cooldown_action": "refuse",
        "trusts_created": True,
        "pins": [
            {"upstream": "docker.io", "image": "library/alpine", "tag": "3.20", "digest": digest},
            {"upstream": "quay.io", "image": "acme/app", "tag": "v1", "digest": digest},
        ],
    }
    assert terminal.json("group", "update", "g")["gate"] == gate
    assert terminal.json("group", "show", "g")["gate"] == gate
    assert "cooldown\t3d" in terminal.done("group", "show", "g")
    fewer = terminal.json("group", "update", "g", "--unpin", "docker.io/library/alpine:3.20", "--allow", "")["gate"]
    assert (fewer["allow"], [pin["upstream"] for pin in fewer["pins"]]) == ([], ["quay.io"])
    opened = terminal.json(
        *("group", "update", "g", "--deny", "", "--cooldown", "0s", "--cooldown-action", "older"),
        *("--no-trust-created", "--unpin", "quay.io/acme/app:v1"),
    )
    assert opened["gate"] is None


def test_a_cooldown_of_a_new_cache_says_until_when_it_refuses_and_the_ways_out(terminal: Terminal) -> None:
    terminal.done("group", "create", "g", "--deny", "*/evil")
    code, _, err = terminal.run("group", "update", "g", "--cooldown", "3d")
    assert (code, err.count("\n")) == (0, 1)
    assert "refuses every tag until" in err and "it has seen no tag yet" in err
    for way in ("--trust-created", "--pin", "--cooldown 0s", "cache warm"):
        assert way in err
    terminal.done("group", "update", "g", "--deny", "")
    terminal.done("group", "update", "g", "--trust-created")
    terminal.done("group", "update", "g", "--cooldown", "0s", "--no-trust-created")
    assert "refuses every tag until" in terminal.run("group", "create", "h", "--cooldown", "1h")[2]


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(days=2), "refuses every tag until 2025-03-07T00:00:00Z at the earliest, for it has seen tags only"),
        (timedelta(days=4), "a tag that this server has not seen before is refused for 3d"),
    ],
)
def test_what_a_cooldown_refuses_depends_on_how_long_tags_were_seen(age: timedelta, text: str) -> None:
    now = datetime(2025, 3, 6, tzinfo=UTC)
    made = replace(new_group("g", now), gate=Gate(cooldown=timedelta(days=3)))
    warning = GateOptions(cooldown="3d").cooldown_warning(made, now - age, now)
    assert warning is not None and warning.startswith((text, f"this server {text}"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--allow", "Library/*"), "no glob on image names"),
        (("--deny", "alpine:latest"), "no glob on image names"),
        (("--allow", "lib["), "no glob on image names"),
        (("--deny", "a[]b"), "close each bracket"),
        (("--cooldown", "soon"), "--cooldown: not a duration"),
        (("--cooldown", "366d"), "write at most 365d"),
        (("--pin", "alpine:3.20"), "write IMAGE:TAG=DIGEST"),
        (("--pin", "alpine:3.20=sha256:12"), "write IMAGE:TAG=DIGEST"),
        (("--pin", f"alpine=sha256:{'a' * 64}"), "names no tag"),
        (("--pin", f"ghcr.io/a/b:c=sha256:{'a' * 64}"), "not configured"),
        (("--unpin", "alpine:3.20"), "pins no alpine:3.20"),
        (("--unpin", "Alpine:3.20"), "lower-case"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(terminal: Terminal, words: tuple[str, ...], reason: str) -> None:
    terminal.done("group", "create", "g")
    assert reason in terminal.refused("group", "update", "g", *words)
    assert terminal.json("group", "show", "g")["gate"] is None


def test_people_are_shown_plain_lines_away_from_a_terminal(terminal: Terminal) -> None:
    terminal.done("group", "create", "ci", "--no-proxy")
    assert terminal.done("group", "list").splitlines() == [
        "Path\tVisibility\tDependency proxy\tDefault upstream\tUpstream login",
        "ci\tprivate\toff\tdocker.io\t-",
        "hub\tpublic\ton, anonymous pull\tdocker.io\t-",
    ]
    shown = terminal.done("group", "show", "hub").splitlines()
    assert shown[:3] == ["path\thub", "visibility\tpublic", "dependency proxy\ton, anonymous pull"]
    assert terminal.done("group", "update", "ci", "--proxy") == "updated group ci: dependency proxy off → on\n"
    assert terminal.done("group", "delete", "ci").startswith("deleted group ci: ")
    assert terminal.done("group", "list").splitlines()[1].startswith("hub\t")


def test_a_deleted_hub_stays_away(terminal: Terminal) -> None:
    terminal.done("group", "create", "ci")
    assert terminal.json("group", "delete", "hub")["path"] == "hub"
    terminal.done("group", "create", "cd")
    assert [group["path"] for group in terminal.json("group", "list")] == ["cd", "ci"]


@pytest.mark.parametrize("words", [("list",), ("show", "a"), ("update", "a"), ("delete", "a")])
def test_only_create_makes_a_data_folder(terminal: Terminal, words: tuple[str, ...]) -> None:
    reason = f"there is no data folder {terminal.data}: name the right one with --data, or make it with `registry-gatew"
    assert terminal.refused("group", *words).startswith(reason)
    assert not terminal.data.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("create", "a"), "group 'a' exists already: choose another path, or update it"),
        (("create", "x/y"), "group 'x/y' needs the group 'x' above it: create that first"),
        (
            ("create", "Team"),
            "group path 'Team' is not fit for image names, because 'Team' has the capital 'T': "
            "use a path such as 'team'",
        ),
        (("create", "v2"), "group path 'v2' holds the reserved word 'v2': use a path such as 'v2-group'"),
        (("show", "x"), "there is no group 'x': `registry-gateway group list` shows those there are"),
        (("update", "x"), "there is no group 'x': `registry-gateway group list` shows those there are"),
        (("delete", "x"), "there is no group 'x': `registry-gateway group list` shows those there are"),
        (("delete", "a"), "group 'a' holds a/b: delete what is inside it first"),
        (
            ("update", "a", "--anonymous-pull"),
            "group 'a' cannot be private and allow anonymous pull: give --visibility public, or --no-anonymous-pull",
        ),
        (
            ("update", "hub", "--visibility", "internal"),
            "group 'hub' cannot be internal and allow anonymous pull: give --visibility public, or --no-anonymous-pull",
        ),
        (
            ("create", "c", "--default-upstream", "ghcr.io"),
            "upstream 'ghcr.io' is not configured, only docker.io, quay.io: "
            'add [upstreams."ghcr.io"] with its url to the settings, or take one of these',
        ),
        (
            ("update", "a", "--default-upstream", "hub"),
            "'hub' is not the name of an upstream: use a lower-case host name with a dot, or localhost, without a port",
        ),
        (
            ("update", "a", "--upstream-username", "u"),
            "the upstream login 'u' needs a password: give --upstream-password-file",
        ),
        (
            ("update", "a", "--upstream-password-file", str(REPOSITORY / "pyproject.toml")),
            "the upstream password needs a user name: give --upstream-username",
        ),
        (
            ("update", "a", "--upstream-username", "", "--upstream-password-file", str(REPOSITORY / "pyproject.toml")),
            "the upstream login of group 'a' needs both a user name and a password",
        ),
        (
            ("update", "a", "--upstream-username", "u", "--upstream-password-file", "/nowhere/password"),
            "password file /nowhere/password cannot be read (No such file or directory): give another one",
        ),
        (
            ("update", "a", "--upstream-username", "u", "--upstream-password-file", "/dev/null"),
            "password file /dev/null is empty: write the password into it",
        ),
    ],
)
def test_what_is_refused_says_what_and_why_and_what_to_do(
    terminal: Terminal, words: tuple[str, ...], reason: str
) -> None:
    terminal.done("group", "create", "a")
    terminal.done("group", "create", "a/b")
    before = terminal.json("group", "list")
    assert terminal.refused("group", *words) == reason
    assert terminal.json("group", "list") == before


def test_a_password_can_be_changed_without_its_user_name(terminal: Terminal) -> None:
    login = ("--upstream-username", "u", "--upstream-password-file")
    terminal.done("group", "create", "a", *login, terminal.password(b"old"))
    changed = terminal.json("group", "update", "a", "--upstream-password-file", terminal.password(b"new"))
    assert changed["proxy"]["upstream_username"] == "u"


def test_a_login_does_not_move_to_another_upstream(terminal: Terminal) -> None:
    login = ("--upstream-username", "u", "--upstream-password-file", terminal.password(b"p"))
    terminal.done("group", "create", "a", *login)
    reason = terminal.refused("group", "update", "a", "--default-upstream", "quay.io")
    assert reason.startswith(
        "group 'a' has a login for docker.io, which quay.io must not see: give --upstream-username"
    )
    assert terminal.json("group", "update", "a", "--default-upstream", "quay.io", *login)["id"] == 2


def test_a_damaged_key_file_is_named(terminal: Terminal) -> None:
    login = ("--upstream-username", "u", "--upstream-password-file", terminal.password(b"p"))
    terminal.done("group", "create", "a", *login)
    (terminal.data / "keys" / KEY_FILE).write_text("damaged")
    assert terminal.refused("group", "update", "a", *login).startswith(f"{terminal.data}/keys/{KEY_FILE} is damaged: ")


def test_a_data_folder_that_cannot_be_made_is_named(terminal: Terminal) -> None:
    inside = terminal.config / "data"
    reason = f"data folder {inside} cannot be made (Not a directory): give --data another one"
    assert terminal.refused("group", "create", "a", data=inside) == reason


@pytest.mark.usefixtures("processes")
def test_four_at_once_on_a_fresh_folder_all_succeed(terminal: Terminal) -> None:
    command = [sys.executable, "-W", "error", "-m", "gateway", "group", "create", "--data", str(terminal.data)]
    running = [
        subprocess.Popen([*command, f"g{number}"], cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for number in range(4)
    ]
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0)] * 4
    assert [group["path"] for group in terminal.json("group", "list")] == ["g0", "g1", "g2", "g3", "hub"]


# config


def test_config_shows_every_setting_with_its_source(terminal: Terminal) -> None:
    shown = {row["name"]: row for row in terminal.json("config", "show")}
    assert shown["data"] == {"name": "data", "value": str(terminal.data), "source": "flag --data"}
    assert shown["port"] == {"name": "port", "value": 8080, "source": "default"}
    assert shown['upstreams."quay.io".url']["source"] == f"file {terminal.config}"
    assert "port\t8080\tdefault" in terminal.done("config", "show").splitlines()
    assert terminal.json("config", "check") == list(shown.values())
    told = f"the settings are valid: 2 given, the others at their defaults, from {terminal.config}\n"
    assert terminal.done("config", "check") == told
    assert not terminal.data.exists()


@pytest.mark.parametrize("words", [("config", "show"), ("config", "check"), ("group", "list"), ("serve",)])
def test_settings_that_cannot_be_used_are_refused(terminal: Terminal, words: tuple[str, ...]) -> None:
    terminal.config.write_text("portt = 1\n")
    assert "portt" in terminal.refused(*words)
    assert not terminal.data.exists()


# serve and the whole


def test_every_flag_of_serve_is_a_setting(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []

    def serve(settings: Settings, *_: object) -> None:
        served.append(settings)
        raise CannotStart("no", remedy="stop it", settings=("data",))

    monkeypatch.setattr(supervisor, "serve", serve)
    flags = ["--host", "127.0.0.2", "--port", "0", "--workers", "1", "--external-url", "https://registry.example.com"]
    flags += ["--allow-open-proxy", "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--log-format", "json"]
    printed = "registry-gateway: no: stop it, or give --data another folder\n"
    assert terminal.run("serve", *flags) == (1, "", printed)
    [settings] = served
    others = {"upstreams", "cache", "database", "zero_copy", "ns_group", "listener", "virtual_host"}
    others |= {"metrics_access", "metrics_token_file", "registry_url", "admin_password_file", "trusted_proxies"}
    others |= {"native", "check_upstreams", "gc", "names", "audit"}
    others |= {"api", "insecure_login", "oidc", "virtual_registries", "webhooks"}
    assert settings.model_dump(exclude=others) == {
        "host": "127.0.0.2",
        "port": 0,
        "data": terminal.data,
        "external_url": "https://registry.example.com",
        "workers": 1,
        "allow_open_proxy": True,
        "tls_cert": Path("cert.pem"),
        "tls_key": Path("key.pem"),
        "log_format": "json",
    }
    assert [group["path"] for group in terminal.json("group", "list")] == ["hub"]


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "--port", "many"),
        ("serve", "--log-format", "xml"),
        ("serve", "--json"),
        ("group", "create"),
        ("group", "create", "a", "--visibility", "secret"),
        ("group", "rename", "a"),
        ("unknown",),
    ],
)
def test_wrong_usage_has_an_exit_code_of_its_own(terminal: Terminal, words: tuple[str, ...]) -> None:
    code, out, err = terminal.run(*words)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert not terminal.data.exists()


@pytest.mark.usefixtures("processes")
def test_the_module_is_the_command() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "gateway", *words], cwd=REPOSITORY, capture_output=True, text=True)

    assert run("--version").stdout.startswith("registry-gateway")
    shown = run("--help").stdout
    assert shown.startswith("Usage: registry-gateway ")
    assert all(command in shown for command in ("serve", "config", "group"))
