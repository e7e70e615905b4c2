"""First start: what `serve` says about the administrator, and what it does with a password file."""

import asyncio
import os

import pytest

from gateway.auth.passwords import matches
from gateway.cli.folder import open_existing
from gateway.db import users
from gateway.keys import root_password
from gateway.namespaces.user import User
from gateway.processes.supervisor import StartWarning
from gateway.settings.tables import Settings
from tests.gateway.cli.starts import Starts
from tests.gateway.cli.terminal import Terminal

PASSWORD_LINE = "administrator root, password in {file} until it is changed"


def root_of(terminal: Terminal) -> User | None:
    async def find() -> User | None:
        async with open_existing(Settings(data=terminal.data)) as database, database.read() as connection:
            return await users.find(connection, "root")

    return asyncio.run(find())


def administrator_line(printed: str) -> str:
    return "".join(line for line in printed.splitlines() if line.startswith("administrator "))


def test_a_fresh_start_names_the_file_and_not_the_password(terminal: Terminal, starts: Starts) -> None:
    file = terminal.data / "keys" / "root-password"
    for _ in range(2):
        printed = terminal.done("serve")
        assert administrator_line(printed) == PASSWORD_LINE.format(file=file)
        assert file.read_text().strip() not in printed
    root = root_of(terminal)
    assert root is not None and root.admin and matches(root.password_hash or "", file.read_text().strip())
    assert starts.warnings == [[], []]


IMAGE = "127.0.0.1:8080/{group}/dependency_proxy/containers/{name}:latest"


@pytest.mark.parametrize(
    ("changes", "group", "name"),
    [
        ([], "hub", "alpine"),
        (["group create a --visibility public --anonymous-pull"], "hub", "alpine"),
        (["group delete hub", "group create a --visibility public --anonymous-pull"], "a", "alpine"),
        (["group update hub --default-upstream quay.io"], "hub", "docker.io/alpine"),
        (
            ["group update hub --no-anonymous-pull", "group create a --visibility public --anonymous-pull"],
            "a",
            "alpine",
        ),
        (["group update hub --no-proxy", "group create a --visibility public --anonymous-pull"], "a", "alpine"),
        (["group update hub --deny library/*", "group create a --visibility public --anonymous-pull"], "a", "alpine"),
        (["group update hub --cooldown 3d --trust-created"], "", ""),
        (["group delete hub"], "", ""),
    ],
)
def test_a_start_prints_commands_that_would_work(
    terminal: Terminal, starts: Starts, changes: list[str], group: str, name: str
) -> None:
    terminal.done("serve")
    for change in changes:
        terminal.done(*change.split())
    lines = terminal.done("serve").splitlines()
    image = IMAGE.format(group=group, name=name)
    commands = [f"try:  docker pull {image}", f"or:   skopeo inspect --tls-verify=false docker://{image}"]
    assert (lines[-2:] == commands) is bool(group)
    if not group:
        assert lines[-1].startswith("no group lets everybody pull yet: `registry-gateway group create PATH")


def test_a_start_prints_no_command_that_the_settings_refuse(terminal: Terminal, starts: Starts) -> None:
    terminal.done("serve")
    terminal.config.write_text('host = "0.0.0.0"\nexternal_url = "https://r.example"\n')
    assert (
        terminal.done("serve")
        .splitlines()[-1]
        .startswith("group hub lets everybody pull, but not beyond this machine: set allow_open_proxy = true")
    )
    terminal.config.write_text('[upstreams."docker.io"]\ndeny = ["*"]\n')
    assert "docker pull" not in terminal.done("serve")


def test_the_password_is_shown_on_a_terminal_once(
    terminal: Terminal, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.administrator.is_on_terminal", lambda: True)
    file = terminal.data / "keys" / "root-password"
    first, second = terminal.done("serve"), terminal.done("serve")
    password = file.read_text().strip()
    assert administrator_line(first) == f"administrator root, password {password} (in {file} until it is changed)"
    assert administrator_line(second) == PASSWORD_LINE.format(file=file)


def test_the_password_comes_from_the_file_of_the_setting(terminal: Terminal, starts: Starts) -> None:
    terminal.config.write_text(f'admin_password_file = "{terminal.password(b"chosen-password" + os.linesep.encode())}"')
    assert administrator_line(terminal.done("serve")) == "administrator root, password as in admin_password_file"
    root = root_of(terminal)
    assert root is not None and matches(root.password_hash or "", "chosen-password")
    assert root_password.find(terminal.data / "keys") is None
    terminal.config.write_text('admin_password_file = "/nonexistent"')
    assert administrator_line(terminal.done("serve")) == ""
    assert root_of(terminal) == root


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory): give another one"),
        (b"", "is empty: write the password into it"),
        (b"\n", "is empty: write the password into it"),
        (b"\xff\xfe", "is not UTF-8: write the password into it as text"),
        (b"short", "the password has 5 characters: use at least 8"),
        (b"x" * 1025, "the password has 1025 characters: use at most 1024"),
    ],
)
def test_a_password_file_of_no_use_is_refused_where_it_is_needed(
    terminal: Terminal, starts: Starts, content: bytes | None, reason: str
) -> None:
    file = terminal.folder / "password"
    if content is not None:
        terminal.password(content)
    terminal.config.write_text(f'admin_password_file = "{file}"')
    said = reason if reason.startswith("the password") else f"password file {file} {reason}"
    expected = f"admin_password_file {file} is needed for the first administrator: {said}"
    assert terminal.refused("serve") == expected
    assert starts.warnings == []
    assert root_of(terminal) is None
    terminal.password(b"long enough")
    terminal.done("serve")
    assert root_of(terminal) is not None


@pytest.mark.parametrize(
    ("words", "reason", "remedy"),
    [
        (
            ["group", "create", "root"],
            "is the path of a group",
            "`registry-gateway user create NAME --admin --password-file FILE` creates one with another name",
        ),
        (
            ["user", "create", "root"],
            "is a regular user",
            "`registry-gateway user update root --admin --unblock` makes it one",
        ),
    ],
)
def test_a_name_that_is_taken_is_warned_of_and_the_server_starts(
    terminal: Terminal, starts: Starts, words: list[str], reason: str, remedy: str
) -> None:
    terminal.done(*words)
    for _ in range(2):
        assert administrator_line(terminal.done("serve")) == ""
    warning = StartWarning("no_administrator", f"there is no administrator, and 'root' {reason}", remedy)
    found = [[one for one in warnings if one.event == "no_administrator"] for warnings in starts.warnings]
    assert found == [[warning], [warning]]
    options = ["--admin", "--password-file", terminal.password(b"long enough")]
    terminal.done("user", *(["create", "ada"] if words[0] == "group" else ["update", "root"]), *options)
    terminal.done("serve")
    assert [one.event for one in starts.warnings[2]] in ([], ["group_has_no_effect"])


@pytest.mark.parametrize("words", [["update", "root", "--password-file"], ["delete", "root"]])
def test_the_file_goes_with_the_password(terminal: Terminal, starts: Starts, words: list[str]) -> None:
    terminal.done("serve")
    keys = terminal.data / "keys"
    terminal.done("user", "create", "ada", "--admin")
    terminal.done("user", "update", "root", "--email", "root@example.com")
    assert root_password.find(keys) is not None
    terminal.done("user", *words, *([terminal.password(b"another password")] if len(words) > 2 else []))
    assert root_password.find(keys) is None
    assert administrator_line(terminal.done("serve")) == ""


def test_other_passwords_leave_the_file(terminal: Terminal, starts: Starts) -> None:
    terminal.done("serve")
    terminal.done("user", "create", "ada", "--password-file", terminal.password(b"another password"))
    terminal.done("user", "update", "ada", "--password-file", terminal.password(b"one more password"))
    assert root_password.find(terminal.data / "keys") is not None
