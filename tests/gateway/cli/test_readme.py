"""The README's sections on users, tokens and CI: every command in them, in order, and what it is said to print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.cli.terminal import Terminal

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
FIRST, END = "## Users, groups, projects and members\n", "## Response headers of a pull\n"
SECTIONS = README[README.index(FIRST) : README.index(END)]
OTHER_PROGRAMS = ["docker"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[list[str], str]]:
    """Each command with the output that stands below it; "" where none does."""
    found = [re.match(r"(.*)\n((?:.*\n)*)", part) for part in re.split(r"^\$ ", "".join(blocks("console")), flags=re.M)]
    return [(shlex.split(match[1]), match[2]) for match in found if match]


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alice.txt").write_text("correct horse battery\n")
    yield Terminal(tmp_path)


def run_readme(terminal: Terminal, until: str = "") -> None:
    """Run the commands in order up to the first that holds a text; a new secret is saved, as the README says."""
    for words, shown in commands():
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


def test_the_commands_work_in_the_order_of_the_readme(prompt: Terminal) -> None:
    run_readme(prompt)
    [member] = prompt.json("member", "list", "team")
    assert (member["user"], member["role"]) == ("alice", "developer")


def test_the_readme_logs_in_without_a_secret_among_the_arguments() -> None:
    text = "".join(blocks("console") + blocks("sh") + blocks("yaml"))
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
    [script] = blocks("sh")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "FAILS": fails}
    done = subprocess.run(["sh", "-c", script], cwd=terminal.folder, env=environment, timeout=180, capture_output=True)
    log = terminal.folder / "docker.log"
    return done.returncode, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("fails", ["", "login", "build", "logout", "killed at build"])
def test_the_script_of_a_ci_job_finishes_its_job_whatever_fails(prompt: Terminal, fails: str) -> None:
    run_readme(prompt, until="token create")
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
