"""Tests that the README matches the code: everything that exists is documented, and documented things exist."""

import re
from pathlib import Path
from typing import Any

import typer.main

from cache.oci.errors import error_codes
from gateway.cli.main import app
from gateway.known_registries import KNOWN_REGISTRIES
from gateway.observability.metrics import Metrics
from gateway.settings.load import setting_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_spans() -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", README))


def commands(command: Any, path: str = "") -> dict[str, Any]:
    """Executable commands by their full names, such as `cache list`."""
    if not hasattr(command, "commands"):
        return {path: command}
    return {
        words: leaf
        for key, sub in command.commands.items()
        for words, leaf in commands(sub, f"{path} {key}".strip()).items()
    }


def test_every_setting_is_documented() -> None:
    spans = code_spans()
    assert [name for name in setting_names() if name not in spans] == []


def test_every_command_is_documented() -> None:
    assert [words for words in commands(typer.main.get_command(app)) if words not in code_spans()] == []


def test_every_option_is_documented() -> None:
    options = {
        option
        for command in commands(typer.main.get_command(app)).values()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    assert [option for option in sorted(options) if option not in README] == []


def test_every_error_code_is_documented_with_its_statuses() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([0-9, ]+) \|", README, re.MULTILINE)
    documented = {code: [int(status) for status in statuses.split(",")] for code, statuses in rows}
    assert documented == error_codes()


def test_every_metric_is_documented() -> None:
    assert [name for name in Metrics().names() if name not in code_spans()] == []


def registry_rows() -> list[str]:
    """The rows of the table of registries, from what is known of them."""

    def spans(names: tuple[str, ...], otherwise: str) -> str:
        return ", ".join(f"`{name}`" for name in names) or otherwise

    return [
        f"| `{known.name}` | {spans(known.settings, 'nothing')} | {known.login or 'not needed'} | "
        f"{spans(known.token_hosts, 'its own')} | {spans(known.redirect_hosts, 'its own')} |"
        for known in KNOWN_REGISTRIES
    ]


def test_the_table_of_registries_is_what_is_known_of_them() -> None:
    _, _, after = README.partition("| registry | needs | a credential is | token hosts | redirect hosts |\n")
    table, _, _ = after.partition("\n\n")
    assert table.splitlines()[1:] == registry_rows()


def test_the_settings_that_registries_need_exist() -> None:
    needed = {f"upstreams.NAME.{setting}" for known in KNOWN_REGISTRIES for setting in known.settings}
    assert needed <= set(setting_names())


def test_the_readme_links_only_to_what_exists() -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    assert [t for t in targets if "://" not in t and not (ROOT / t).exists()] == []
