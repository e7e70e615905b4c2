"""`help`: the list of topics, a page, and what it needs for that: nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.cli.terminal import Terminal
from tests.parts.pages import PAGES, ROOT

HEAVY = ["gateway.settings", "sqlalchemy", "starlette", "rich.console"]
"""Modules that take most of the time of another command."""


def test_without_a_topic_all_are_listed_with_a_line_each(terminal: Terminal) -> None:
    listed = terminal.done("help").split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == sorted(PAGES)
    for line, topic in zip(listed, sorted(PAGES), strict=True):
        assert line.split(maxsplit=1)[1] == PAGES[topic].splitlines()[2]
    documents = terminal.json("help")
    assert [sorted(document) for document in documents] == [["summary", "topic"]] * len(PAGES)
    assert [document["topic"] for document in documents] == sorted(PAGES)


@pytest.mark.parametrize("topic", PAGES)
def test_a_page_is_printed_as_it_is_written(terminal: Terminal, topic: str) -> None:
    assert terminal.done("help", topic) == PAGES[topic]
    document = terminal.json("help", topic)
    assert (document["topic"], document["text"]) == (topic, PAGES[topic])


def test_it_needs_no_settings_and_no_data_folder(terminal: Terminal) -> None:
    terminal.config.unlink()
    terminal.done("help", "quota")
    assert not terminal.data.exists()


@pytest.mark.parametrize(
    ("topic", "near"),
    [("gate", "near it are gates; "), ("gitlab", "near it are gitlab-ci, gitlab-runner; "), ("zzz", "")],
)
def test_an_unknown_topic_is_refused_with_what_there_is(terminal: Terminal, topic: str, near: str) -> None:
    assert (
        terminal.refused("help", topic)
        == f"there is no help topic {topic!r}: {near}`registry-gateway help` lists all topics"
    )


@pytest.mark.usefixtures("processes")
def test_it_is_shown_without_the_modules_of_other_commands(tmp_path: Path) -> None:
    program = f"""
import json, sys
from gateway.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "help", "quota"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "GATEWAY_PORT": "no port"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    page, loaded = done.stdout[: len(PAGES["quota"])], done.stdout[len(PAGES["quota"]) :]
    assert page == PAGES["quota"]
    assert json.loads(loaded) == []
