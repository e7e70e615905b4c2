"""The command line as a whole: lists, `--help`, examples, completion, and what is imported for them."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.catalogue import CATALOGUE, PROGRAM, Entry, leaves
from gateway.cli.lazy import commands_of
from gateway.cli.recorded_help import RecordedCommand, read_record
from tests.gateway.cli.help_record import context_of
from tests.gateway.cli.terminal import Terminal
from tests.parts.commands import find_command, invoke
from tests.parts.pages import ROOT

HEAVY = [
    *("starlette", "hypercorn", "h11", "httpx2", "anyio", "sqlalchemy", "aiosqlite", "asyncpg", "alembic", "aiofiles"),
    *("cryptography", "argon2", "jwt", "prometheus_client", "structlog", "rich.console"),
]
"""Libraries that take most of the time of commands which need them."""

COMMANDS = [pytest.param(name, entry, id=name) for name, entry in leaves()]
GROUPS = ["", *(name for name, entry in CATALOGUE.items() if entry.commands)]


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which prints last which of the heavy libraries it has imported."""
    program = f"""
import json, sys
from gateway.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    argv = [sys.executable, "-c", program, *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)


def imported(*words: str) -> list[str]:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    "words",
    [
        *("--help", "--version", "-h", "cache --help", "help", "help quota", "example systemd"),
        *("cache evict --help", "group create -h", "serve --help", "doctor --help"),
    ],
)
def test_what_is_listed_or_printed_needs_no_heavy_library(words: str) -> None:
    assert imported(*words.split()) == []


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("words", ["--help", "cache --help", "cache evict --help"])
def test_what_only_other_commands_need_is_not_imported_for_help(words: str) -> None:
    program = f"import sys; from gateway.cli.main import main; sys.argv[1:] = {words.split()!r}; main()"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, cwd=ROOT)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (done.returncode, imported & {"importlib.metadata", "pydantic"}) == (0, set())


DATABASE = {"sqlalchemy", "cryptography"}
CACHE = DATABASE | {"aiofiles"}


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("config show", set()),
        ("group list --json --help", DATABASE),
        ("user create --json --help", DATABASE),
        ("keys list --json --help", DATABASE),
        ("quota --json --help", DATABASE),
        ("access explain --json --help", DATABASE),
        ("member add --json --help", DATABASE),
        ("cache list --json --help", CACHE),
        ("cache evict --json --help", CACHE),
    ],
)
def test_a_command_imports_no_more_than_it_needs(words: str, needed: set[str]) -> None:
    assert set(imported(*words.split())) <= needed


# Lists and help


@pytest.mark.parametrize(("name", "entry"), COMMANDS)
def test_the_line_of_a_command_is_how_its_help_begins(name: str, entry: Entry) -> None:
    told = " ".join(find_command(name.split())[0].help.split())
    assert told.startswith(entry.summary)
    assert told[len(entry.summary)] in ".;:, "


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("name", "entry"), COMMANDS)
def test_recorded_help_reads_as_that_of_the_command(name: str, entry: Entry, width: int) -> None:
    command = find_command(name.split())[0]
    recorded = RecordedCommand(name.split()[-1], read_record()[name], rich_markup_mode=None, epilog=command.epilog)
    texts = [each.get_help(context_of(name, each, width)) for each in (command, recorded)]
    assert texts[0] == texts[1]
    assert invoke([*name.split(), "--help"]).stdout == invoke([*name.split(), "--help", "--help"]).stdout


@pytest.mark.parametrize("group", GROUPS)
def test_lists_show_each_line_whole(group: str) -> None:
    shown = invoke([*group.split(), "--help"])
    assert shown.exit_code == 0
    entries = CATALOGUE[group].commands if group else CATALOGUE
    lines = [line.split(maxsplit=1) for line in shown.stdout.partition("\nCommands:\n")[2].splitlines() if line]
    assert [[name, entry.summary] for name, entry in entries.items()] == lines[: len(entries)]
    assert "..." not in shown.stdout.partition("\n")[2]


@pytest.mark.parametrize(("name", "entry"), COMMANDS)
def test_the_help_of_a_command_has_an_example_that_can_be_typed(name: str, entry: Entry) -> None:
    shown = invoke([*name.split(), "-h"])
    assert shown.exit_code == 0
    assert shown.stdout.endswith(f"Example:\n    {PROGRAM} {entry.example}\n")
    command, rest = find_command(shlex.split(entry.example))
    assert command is find_command(name.split())[0]
    with command.make_context(command.name, rest):
        pass


def test_every_command_of_a_module_is_in_the_catalogue() -> None:
    modules = {entry.module or name.split()[0].replace("-", "_") for name, entry in leaves()}
    defined = sorted(word for module in modules for word in commands_of(module))
    assert defined == sorted(name.split()[-1] for name, _ in leaves())


@pytest.mark.parametrize("words", ["unknwon", "cache lst"])
def test_a_word_that_is_no_command_is_refused_with_what_is_near(terminal: Terminal, words: str) -> None:
    code, out, err = terminal.run(*words.split())
    assert (code, out) == (2, "")
    assert f"No such command '{words.split()[-1]}'" in err
    if words == "cache lst":
        assert "Did you mean 'list'?" in err


# Completion


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("registry-gateway cac", ["cache"]),
        ("registry-gateway cache ev", ["evict"]),
        ("registry-gateway cache evict --al", ["--all"]),
        ("registry-gateway client-config pod", ["podman"]),
    ],
)
def test_a_shell_completes_commands_and_options(line: str, offered: list[str]) -> None:
    words = line.split()
    environment = {
        "_REGISTRY_GATEWAY_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    assert run(**environment).stdout.splitlines()[:-1] == offered


@pytest.mark.usefixtures("processes")
def test_completing_a_command_imports_none_of_them() -> None:
    environment = {"_REGISTRY_GATEWAY_COMPLETE": "complete_bash", "COMP_WORDS": "registry-gateway ", "COMP_CWORD": "1"}
    *offered, loaded = run(**environment).stdout.splitlines()
    assert offered == list(CATALOGUE)
    assert json.loads(loaded) == []


def test_the_script_of_a_shell_is_printed(tmp_path: Path) -> None:
    program = "from gateway.__main__ import main; main()"
    argv = [sys.executable, "-c", program, "--show-completion"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHELL": "/bin/bash"}
    shown = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    if shown.returncode:  # no shell runs the tests
        pytest.skip(shown.stderr)
    assert "_REGISTRY_GATEWAY_COMPLETE" in shown.stdout
