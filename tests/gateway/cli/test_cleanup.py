"""`cleanup`, and the policy of `project update`, as they are typed."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from gateway.audit.event import EventKind
from gateway.audit.file import AuditQuery, read_events
from gateway.data_folder import audit_file
from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import push

DEFAULTS = {
    "enabled": False,
    "cadence": "1d",
    "keep_n": 10,
    "older_than": "90d",
    "name_regex_delete": ".*",
    "name_regex_keep": None,
}


@pytest.fixture
def pushed(terminal: Terminal) -> Terminal:
    """Images of a project that are older than 90 days."""
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", [b"one"], "v1", "v2", "latest")
    push(terminal.data, "team/app", "team/app/web", [b"two"], "dev-1", "production-1")
    return terminal


def test_a_policy_has_the_defaults_of_gitlab_and_is_changed_part_by_part(pushed: Terminal) -> None:
    assert pushed.json("project", "show", "team/app")["cleanup"] is None
    assert pushed.json("project", "update", "team/app", "--no-cleanup")["cleanup"] == DEFAULTS
    changed = pushed.json(
        "project", "update", "team/app", "--cleanup", "--cleanup-keep-n", "1", "--cleanup-keep", "p.*"
    )
    assert changed["cleanup"] == DEFAULTS | {"enabled": True, "keep_n": 1, "name_regex_keep": "p.*"}
    words = [
        "--cleanup-keep-n",
        "none",
        "--cleanup-older-than",
        "none",
        "--cleanup-keep",
        "",
        "--cleanup-cadence",
        "7d",
    ]
    changed = pushed.json("project", "update", "team/app", *words, "--cleanup-delete", "v.*")
    nothing = {"enabled": True, "keep_n": None, "older_than": None, "cadence": "7d", "name_regex_delete": "v.*"}
    assert changed["cleanup"] == DEFAULTS | nothing
    assert pushed.json("project", "update", "team/app", "--quota", "1GiB")["cleanup"] == changed["cleanup"]
    [policy] = pushed.json("cleanup", "status")
    assert (policy["project"], policy["state"], policy["deleted"]) == ("team/app", "scheduled", 0)
    away = datetime.fromisoformat(policy["next_run_at"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < away <= timedelta(days=7)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--cleanup-keep-n", "3"], "keep_n: 3 is not in the list: use 1, 5, 10, 25, 50, 100 or none"),
        (["--cleanup-keep-n", "-1"], "'-1' is no number of tags: give --cleanup-keep-n one of 1, 5"),
        (["--cleanup-older-than", "1h"], "older_than: '1h' is not in the list: use 7d, 14d, 30d, 60d, 90d or none"),
        (["--cleanup", "--cleanup-delete", "v("], "name_regex_delete: 'v(' is no regular expression of RE2: missing )"),
        (["--cleanup", "--cleanup-delete", ""], "name_regex_delete: an empty pattern matches no tag"),
        (["--cleanup-delete", "v" * 256], "name_regex_delete: a pattern has at most 255 characters, not 256"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(pushed: Terminal, words: list[str], reason: str) -> None:
    assert pushed.refused("project", "update", "team/app", *words).startswith(reason)
    assert pushed.json("project", "show", "team/app")["cleanup"] is None


def test_a_dry_run_tells_of_each_tag_what_becomes_of_it_and_a_run_does_that(pushed: Terminal) -> None:
    pushed.done(
        "project", "update", "team/app", "--cleanup", "--cleanup-keep-n", "1", "--cleanup-keep", "production-.*"
    )
    judged = pushed.json("cleanup", "run", "team/app", "--dry-run")
    assert [(each["repository"], each["name"], each["verdict"]) for each in judged] == [
        ("team/app", "v2", "newest"),
        ("team/app", "v1", "deleted"),
        ("team/app", "latest", "latest"),
        ("team/app/web", "production-1", "kept_name"),
        ("team/app/web", "dev-1", "newest"),
    ]
    assert judged[0]["published_at"] == "2026-03-04T05:06:07Z"
    assert len(pushed.json("tag", "list", "team/app")) == 3
    assert pushed.done("cleanup", "run", "team/app").splitlines() == [
        "project\tteam/app",
        "repositories\t2",
        "cleaned\t2",
        "deleted\t1",
        "problem\t-",
    ]
    assert [tag["name"] for tag in pushed.json("tag", "list", "team/app")] == ["latest", "v2"]
    done = pushed.json("cleanup", "status", "team/app")
    assert [(each["repository"], each["deleted"], each["kept"]) for each in done] == [
        ("team/app", 1, 2),
        ("team/app/web", 0, 2),
    ]
    deletions = AuditQuery(event=EventKind.DELETE)
    [event] = [found.event for found in read_events(audit_file(pushed.data), deletions, None, 10)]
    assert (event.event.value, event.surface.value, event.path, event.tag) == ("delete", "cleanup", "team/app", "v1")
    assert event.who is not None and event.who.startswith("command of ")
    pushed.done("tag", "restore", "team/app:v1")


def test_a_policy_that_would_delete_everything_says_so_before(pushed: Terminal) -> None:
    everything = ["--cleanup", "--cleanup-keep-n", "none", "--cleanup-older-than", "none"]
    pushed.done("project", "update", "team/app", *everything)
    pushed.done("tag", "delete", "team/app:latest")
    code, out, err = pushed.run("cleanup", "run", "team/app", "--dry-run")
    assert (code, out.count("deleted")) == (0, 4)
    assert err == (
        "registry-gateway: warning: the policy of project 'team/app' would delete every tag of its repositories\n"
    )


def test_a_policy_that_is_disabled_missing_or_running_is_not_run(pushed: Terminal) -> None:
    said = pushed.refused("cleanup", "run", "team/app")
    assert said.startswith("project 'team/app' has no cleanup policy: `registry-gateway project update team/app --clea")
    pushed.done("project", "update", "team/app", "--no-cleanup")
    said = pushed.refused("cleanup", "run", "team/app")
    assert said.startswith("the cleanup policy of project 'team/app' is disabled: look at what it would delete by ")
    assert pushed.done("cleanup", "status").splitlines()[1].startswith("team/app\tdisabled\t-")
    pushed.done("project", "update", "team/app", "--cleanup")
    with closing(sqlite3.connect(pushed.data / "gateway.db")) as file, file:
        file.execute(
            "UPDATE cleanup_policies SET run_at = '2026-03-04 00:00:00.000000', leased_by = 'x', "
            "leased_until = '2999-01-01 00:00:00.000000'"
        )
    said = pushed.refused("cleanup", "run", "team/app")
    assert said == ("the cleanup policy of project 'team/app' runs already: `registry-gateway cleanup status` shows it")
    assert pushed.json("cleanup", "status")[0]["state"] == "running"
    assert pushed.refused("cleanup", "run", "team/none").startswith("there is no project 'team/none'")
