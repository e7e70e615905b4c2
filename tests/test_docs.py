"""Tests that README, pages and examples match the code: what exists is documented, and what is documented exists."""

import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import cache
import gateway
from cache.oci.errors import RefusalReason, RegistryError, error_codes
from gateway.cli.example import Example
from gateway.cli.recorded_help import read_record
from gateway.help.pages import list_pages
from gateway.known_registries import KNOWN_REGISTRIES
from gateway.namespaces.credential_rules import default_username
from gateway.observability.metrics import Metrics
from gateway.settings.keys import ARRAYS, to_plain
from gateway.settings.load import descriptions, load, rows, setting_names
from tests.gateway.cli.help_record import record
from tests.parts.commands import every_command, find_command
from tests.parts.pages import (
    EVERYTHING,
    FILES,
    FRONT,
    PAGES,
    README,
    ROOT,
    anchor,
    blocks,
    code_spans,
    commands,
    headings,
    prose,
)

LONGEST_README = 200
OF_OTHER_PROGRAMS = {"runners", "plugins", "platforms"}
"""First keys of TOML on the pages that is read by a runner or containerd, or is a list of images."""
TEXTS_OF_THE_GUIDE = [
    "invalid reference format",
    "lookup docker on",
    "Unknown Manifest",
    "blob unknown to registry",
    "cannot be transferred",
    "AccessDenied",
]
"""What GitLab's user guide lists among the messages that its readers may meet."""
TEXTS = [pytest.param(path.read_text(), path, id=path.stem) for path in (FRONT, *FILES.values())]


def test_every_setting_is_documented() -> None:
    assert [name for name in setting_names() if name not in code_spans(PAGES["settings"])] == []


def test_every_command_is_documented() -> None:
    spans = code_spans(PAGES["commands"])
    assert [words for words in every_command() if words not in spans] == []


def test_the_help_of_every_command_is_recorded_as_it_is() -> None:
    assert read_record() == record(), "write it anew: python -m tests.gateway.cli.help_record"


def test_every_option_is_documented() -> None:
    options = {
        option
        for command in [find_command([])[0], *every_command().values()]
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--") and option != "--help"
    }
    named = set(re.findall(r"--[a-z][a-z-]*", PAGES["commands"]))
    assert [option for option in sorted(options) if option not in named] == []


def test_every_error_code_is_documented_with_its_statuses() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([0-9, ]+) \|", PAGES["errors"], re.MULTILINE)
    documented = {code: [int(status) for status in statuses.split(",")] for code, statuses in rows}
    assert documented == error_codes()


def test_every_reason_of_a_refusal_is_documented_and_no_other() -> None:
    table = PAGES["metrics"].partition("| reason |")[2]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`(.*?)`", " ".join(cells))) == sorted(reason.value for reason in RefusalReason)


def test_every_metric_is_documented() -> None:
    assert [name for name in Metrics().names() if name not in code_spans(PAGES["metrics"])] == []


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
    _, _, after = PAGES["upstreams"].partition(
        "| registry | needs | a credential is | token hosts | redirect hosts |\n"
    )
    table, _, _ = after.partition("\n\n")
    assert table.splitlines()[1:] == registry_rows()


def test_the_settings_that_registries_need_exist() -> None:
    needed = {f"upstreams.NAME.{setting}" for known in KNOWN_REGISTRIES for setting in known.settings}
    assert needed <= set(setting_names())


# README and pages


@pytest.mark.parametrize(("text", "path"), TEXTS)
def test_links_lead_only_to_what_exists(text: str, path: Path) -> None:
    inline = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    for target in inline:
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.exists(), target
        if fragment:
            assert fragment in map(anchor, headings(place.read_text())), target


def test_the_sources_of_the_readme_are_used_and_given() -> None:
    given = re.findall(r"^\[([^\]]+)\]: https://\S+$", README, re.MULTILINE)
    used = re.findall(r"\[([^\]\n]+)\](?![(:\]])", re.sub(r"`[^`]*`", "", prose(README)))
    assert sorted(set(used)) == sorted(given)


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= LONGEST_README
    linked = dict(re.findall(r"\[([^\]]+)\]\(gateway/help/([\w-]+)\.md\)", README.partition("\n## Pages\n")[2]))
    assert {topic: title for title, topic in linked.items()} | {"security": "Security"} == {
        topic: headings(text)[0] for topic, text in PAGES.items()
    }


@pytest.mark.parametrize("topic", PAGES)
def test_a_page_begins_with_its_title_and_a_line_that_sums_it_up(topic: str) -> None:
    title, empty, summary, end, *_ = PAGES[topic].split("\n")
    assert (title[:2], empty, end) == ("# ", "", "")
    assert summary.endswith(".")
    assert len(f"{topic:14} {summary}") <= 120


def test_the_program_has_every_page() -> None:
    assert {page.topic: page.text for page in list_pages()} == PAGES


@pytest.mark.usefixtures("processes")
def test_every_page_comes_with_an_installation(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = set(wheel.namelist())
        assert {f"gateway/help/{path.name}" for path in FILES.values()} <= names
        for room in ("templates", "static"):
            assert {f"gateway/web/{room}/{path.name}" for path in (ROOT / "gateway/web" / room).iterdir()} <= names


# Examples


def typed() -> list[Any]:
    """Every command of this program in a console block, without what the shell makes of its line."""
    found = []
    for name, text in [("README", README), *PAGES.items()]:
        for line, _ in commands(text):
            words = shlex.split(line, comments=True)
            for index, word in enumerate(words):
                begins = index == 0 or words[index - 1] == "&&"
                if begins and word.rpartition("/")[2] == "registry-gateway":
                    found.append(pytest.param(words[index + 1 :], id=f"{name}: {' '.join(words[index + 1 :])[:60]}"))
    return found


@pytest.mark.parametrize("words", typed())
def test_every_command_on_a_page_can_be_typed(words: list[str]) -> None:
    command, words = find_command(words)
    with command.make_context(command.name, [word.replace("…", "0" * 56) for word in words]):
        pass


@pytest.mark.parametrize("text", [pytest.param(t, id=t.strip()[:40]) for t in blocks(EVERYTHING, "toml")])
def test_settings_on_a_page_are_accepted(text: str, tmp_path: Path) -> None:
    if OF_OTHER_PROGRAMS & set(tomllib.loads(text)):
        return
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    load(file, {}, {})


@pytest.mark.parametrize("text", [pytest.param(t, id=t.strip()[:40]) for t in blocks(EVERYTHING, "yaml")])
def test_yaml_on_a_page_is_some(text: str) -> None:
    assert isinstance(yaml.safe_load(text), dict)


def test_kubernetes_accepts_the_manifests_of_its_page() -> None:
    manifests = [yaml.safe_load(text) for text in blocks(PAGES["kubernetes"], "yaml")]
    assert [manifest["kind"] for manifest in manifests] == ["Secret", "Pod"]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    secret, pod = manifests
    assert pod["spec"]["imagePullSecrets"] == [{"name": secret["metadata"]["name"]}]
    logins = json.loads(secret["stringData"][".dockerconfigjson"])["auths"]
    assert [container["image"].partition("/")[0] for container in pod["spec"]["containers"]] == list(logins)


def test_the_pull_secret_has_the_user_name_of_a_deploy_token() -> None:
    assert f'"username": "{default_username(1)}"' in PAGES["kubernetes"]


# Troubleshooting


def errors_of_the_program() -> set[type[RegistryError]]:
    """Every error that is sent to clients, wherever it is defined."""
    for package in (cache, gateway):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found, pending = set(), [RegistryError]
    while pending:
        found.add(error := pending.pop())
        pending += error.__subclasses__()
    return found


@pytest.mark.parametrize("text", TEXTS_OF_THE_GUIDE)
def test_troubleshooting_has_an_entry_for_each_text_of_the_guide(text: str) -> None:
    assert text in headings(PAGES["troubleshooting"])


def test_troubleshooting_knows_every_message_and_every_code_as_clients_print_them() -> None:
    spans = code_spans(PAGES["troubleshooting"])
    errors = errors_of_the_program()
    assert len(errors) > 20
    assert [error.message for error in errors if error.message.partition(":")[0] not in spans] == []
    assert [code for code in error_codes() if code.lower().replace("_", " ") not in spans] == []


# The settings that `example settings` prints: a sentence, then `#NAME = DEFAULT` or `NAME = VALUE  # default: DEFAULT`.

SETTING_LINE = re.compile(r"#?([a-z_]+) = (.*?)(?:  # (?:default: (.*)|required))?")


def example_settings() -> dict[str, tuple[str, str]]:
    """The sentences above each setting of the example, and its default as TOML, by dotted name."""
    found: dict[str, tuple[str, str]] = {}
    table, sentences = "", []
    for line in Example.SETTINGS.text.splitlines():
        if header := re.fullmatch(r"#?(?:\[\[(\w+)]]|\[([^\[\]]+)])", line):
            table = (header[1] or header[2]).replace('"docker.io"', "NAME").replace("oidc.github", "oidc.NAME") + "."
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
