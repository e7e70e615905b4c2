"""Tests that the README and the examples match the code: everything that exists is there, and what is there exists."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import typer.main

from cache.oci.errors import error_codes
from gateway.cli.example import Example
from gateway.cli.main import app
from gateway.known_registries import KNOWN_REGISTRIES
from gateway.observability.metrics import Metrics
from gateway.settings.keys import ARRAYS, to_plain
from gateway.settings.load import descriptions, load, rows, setting_names

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


# The settings that `example settings` prints: a sentence, then `#NAME = DEFAULT` or `NAME = VALUE  # default: DEFAULT`.

SETTING_LINE = re.compile(r"#?([a-z_]+) = (.*?)(?:  # (?:default: (.*)|required))?")


def example_settings() -> dict[str, tuple[str, str]]:
    """The sentences above each setting of the example, and its default as TOML, by dotted name."""
    found: dict[str, tuple[str, str]] = {}
    table, sentences = "", []
    for line in Example.SETTINGS.text.splitlines():
        if header := re.fullmatch(r"#?(?:\[\[(\w+)]]|\[([^\[\]]+)])", line):
            table = (header[1] or header[2]).replace('"docker.io"', "NAME") + "."
            if header[1]:
                found[header[1]] = (" ".join(sentences), "[]")
            sentences = []
        elif setting := SETTING_LINE.fullmatch(line):
            found[table + setting[1]] = (" ".join(sentences), setting[3] or setting[2])
            sentences = []
        elif line.startswith("# "):
            sentences.append(line[2:])
        else:
            sentences = []
    return found


def test_the_example_has_every_setting_with_its_sentence() -> None:
    found = example_settings()
    assert sorted(found) == sorted(setting_names())
    described = descriptions()
    assert {name: said for name, (said, _) in found.items() if described[name] not in said} == {}


def test_the_example_has_the_defaults_of_the_code() -> None:
    defaults = {row.name.replace('"docker.io"', "NAME"): row.value for row in rows(load(None, {}, {}))}
    for array, model in ARRAYS.items():
        fields = model.model_fields.items()
        defaults |= {f"{array}.{key}": to_plain(field.default) for key, field in fields if not field.is_required()}
    said = {name: tomllib.loads(f"it = {default}")["it"] for name, (_, default) in example_settings().items()}
    assert said["data"] == "./registry-data"  # which the code holds as a path
    assert {name: said[name] for name in defaults} == defaults | {"data": "./registry-data"}


OF_THE_CHART = {"host", "port", "data", "tls_cert", "tls_key", "metrics_access", "metrics_token_file"} | set(ARRAYS)
"""Settings that the chart derives from values of its own."""


def test_the_chart_takes_every_setting() -> None:
    schema = json.loads((ROOT / "helm" / "values.schema.json").read_text())
    taken = set(schema["properties"]["settings"]["properties"])
    assert taken == {name.partition(".")[0] for name in setting_names()} - OF_THE_CHART
