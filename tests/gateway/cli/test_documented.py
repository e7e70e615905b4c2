"""README and pages: the commands on users, tokens and CI in order, and what each is said to print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import push
from tests.parts.pages import PAGES, README, ROOT, blocks, commands

IN_ORDER = "\n".join(PAGES[topic] for topic in ("groups", "pushing", "tokens", "ci", "gitlab-runner", "gitlab-ci"))
"""The pages that tell of one group, its project and its user, in the order in which they are read."""
OTHER_PROGRAMS = ["docker"]


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alice.txt").write_text("correct horse battery\n")
    yield Terminal(tmp_path)


def run_pages(terminal: Terminal, until: str = "") -> None:
    """Run the commands in order up to the first that holds a text; a new secret is saved, as a page says."""
    for line, shown in commands(IN_ORDER):
        words = shlex.split(line)
        if until and until in shlex.join(words):
            return
        if words[0] in OTHER_PROGRAMS:
            continue
        assert words[0] == "registry-gateway", words
        code, out, err = terminal.run(*words[1:])
        assert code == int("registry-gateway: refused:" in shown), (words, err)
        if shown:
            assert out + err == shown, words
        if secret := re.search(r"rgdt-\S+", out):
            Path("token.txt").write_text(secret[0])


def test_the_commands_work_in_the_order_of_the_pages(prompt: Terminal) -> None:
    run_pages(prompt)
    [member] = prompt.json("member", "list", "team")
    assert (member["user"], member["role"]) == ("alice", "developer")


def test_the_page_on_cleanup_shows_what_its_commands_print(prompt: Terminal) -> None:
    prompt.done("group", "create", "team")
    prompt.done("project", "create", "team/app")
    push(prompt.data, "team/app", "team/app", [b"layer"], "v1", "build-1", "build-2", "latest")
    for line, shown in commands(PAGES["cleanup"]):
        words = shlex.split(line)
        out = prompt.done(*words[1:])
        assert not shown or out == shown, words
    assert [tag["name"] for tag in prompt.json("tag", "list", "team/app")] == ["build-1", "build-2", "latest", "v1"]


def test_the_page_on_protection_shows_what_its_commands_print(prompt: Terminal) -> None:
    prompt.done("group", "create", "team")
    prompt.done("project", "create", "team/app")
    prompt.done("user", "create", "alice", "--password-file", "alice.txt")
    prompt.done("member", "add", "team", "alice", "developer")
    for line, shown in commands(PAGES["protection"]):
        code, out, err = prompt.run(*shlex.split(line)[1:])
        assert (code, out + err) == (int("refused:" in shown), shown), line


def test_the_pages_log_in_without_a_secret_among_the_arguments() -> None:
    text = "".join(found for language in ("console", "sh", "yaml") for found in blocks(IN_ORDER, language))
    logins = [line for line in text.splitlines() if " login " in line]
    assert len(logins) > 3
    for line in logins:
        assert " -p " not in line and not re.search("--password[ =]", line), line
        assert "PASSWORD" not in line or "--password-stdin" in line, line


STUB = """\
#!/bin/sh
echo "$@" >> docker.log
case "$*" in *--password-stdin*) cat >> docker.log; echo >> docker.log;; esac
test "$1" != "${FAILS#killed at }" && exit
case "$FAILS" in killed*) kill -TERM $PPID;; *) exit 1;; esac
"""


def run_script(terminal: Terminal, fails: str = "") -> tuple[int, list[str]]:
    """Run the script of a CI job. Returns its exit code and the calls of docker; `fails`: which of them fails,
    or at which of them the script is terminated."""
    programs = terminal.folder / "bin"
    programs.mkdir(exist_ok=True)
    gateway = f'exec {sys.executable} -m gateway "$@" --data {terminal.data} --config {terminal.config}'
    for name, text in (("docker", STUB), ("registry-gateway", f"#!/bin/sh\n{gateway}\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o700)
    [script] = blocks(IN_ORDER, "sh")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "FAILS": fails}
    done = subprocess.run(["sh", "-c", script], cwd=terminal.folder, env=environment, timeout=180, capture_output=True)
    log = terminal.folder / "docker.log"
    return done.returncode, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("fails", ["", "login", "build", "logout", "killed at build"])
def test_the_script_of_a_ci_job_finishes_its_job_whatever_fails(prompt: Terminal, fails: str) -> None:
    run_pages(prompt, until="token create")
    code, calls = run_script(prompt, fails)
    assert (code == 0) == (not fails)
    assert calls[0] == "login --username gitlab-ci-token --password-stdin 127.0.0.1:8080"
    assert calls[1].startswith("rgjob-")
    if fails != "login":
        assert "BASE=127.0.0.1:8080/team/dependency_proxy/containers/alpine:latest" in calls[2]
    assert calls[-1] == "logout 127.0.0.1:8080"
    [job] = prompt.json("job", "list", "--all")
    assert (job["state"], job["ref"]) == ("finished", "main")


def test_the_script_of_a_ci_job_stops_where_no_job_starts(prompt: Terminal) -> None:
    prompt.done("group", "create", "team")
    code, calls = run_script(prompt)
    assert (code, calls) == (1, [])


# README and the page on Kubernetes


def run_quick(terminal: Terminal, text: str) -> dict[str, str]:
    """Run the commands of a text that need no server; returns what each printed, by the words of the command."""
    shown = {}
    for line, printed in commands(text):
        program, *words = shlex.split(line)
        if program == "registry-gateway" and words[0] not in ("serve", "doctor"):
            code, out, err = terminal.run(*words)
            assert code == 0, (words, err)
            assert out == printed or not printed
            shown[" ".join(words)] = out
    return shown


def test_the_commands_of_the_readme_work(prompt: Terminal) -> None:
    prompt.config.write_text("".join(blocks(README, "toml")))
    prompt.done("user", "create", "root", "--admin", "--password-file", "alice.txt")
    shown = run_quick(prompt, README)
    assert "http://127.0.0.1:8081" in shown["client-config docker --config gateway.toml"]
    assert "hosts.toml" in shown["client-config containerd"]
    assert prompt.json("group", "show", "ci")["gate"]["allow"] == ["library/*"]
    assert prompt.json("project", "show", "root/app")["visibility"] == "public"


def test_the_commands_of_the_page_on_kubernetes_print_what_it_says(prompt: Terminal) -> None:
    prompt.done("group", "create", "team")
    shown = run_quick(prompt, PAGES["kubernetes"])
    for name, upstream in (("containerd", "docker.io"), ("containerd --upstream quay.io", "quay.io")):
        path = shown[f"client-config {name}"].splitlines()[0].removeprefix("# ")
        assert path == f"/etc/containerd/certs.d/{upstream}/hosts.toml"
    configured = [set(re.findall('config_path = "(.*)"', text)) for text in blocks(PAGES["kubernetes"], "toml")]
    assert configured == [{"/etc/containerd/certs.d"}] * 2
    assert "systemctl reload crio" in shown["client-config crio"]
    [token] = prompt.json("deploy-token", "list", "--group", "team")
    assert token["username"] == "gitlab+deploy-token-1"


def test_the_way_around_a_project_that_cannot_be_moved_works(prompt: Terminal) -> None:
    prompt.done("group", "create", "team")
    prompt.done("project", "create", "team/app")
    text = PAGES["troubleshooting"]
    entry = text[text.index("### `cannot be transferred`") : text.index("## Logins and rights")]
    run_quick(prompt, entry)
    assert [project["path"] for project in prompt.json("project", "list")] == ["team/new"]
