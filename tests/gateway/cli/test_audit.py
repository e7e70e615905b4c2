"""`audit list` as it is typed."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from gateway.audit.event import AuditEvent
from gateway.audit.file import AuditFile, AuditLimits
from gateway.cli import audit
from gateway.data_folder import audit_file
from tests.gateway.audit.samples import DIGEST, delete, pull
from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import push

KEEP = AuditLimits(timedelta(days=90), 1 << 30)


def append(data: Path, *events: AuditEvent) -> None:
    data.mkdir(exist_ok=True)
    AuditFile(audit_file(data), KEEP).append(events)


def at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_events_are_listed_the_earliest_first(terminal: Terminal) -> None:
    now = int(time.time())
    append(terminal.data, delete(now - 600), pull(now - 3600, outcome="HIT", request_id="r1"))
    assert terminal.done("audit", "list").splitlines() == [
        "At\tWho\tEvent\tPath\tDigest\tFrom\tTo",
        f"1 h ago\tuser 'alice'\tpull\tteam/app:latest\t{DIGEST[:19]}\t-\t-",
        "10 min ago\tcommand of root\tdelete\tteam/app\t-\t-\t-",
    ]
    first, second = terminal.json("audit", "list")
    assert first == {
        "at": at(now - 3600),
        "who": "user 'alice'",
        "event": "pull",
        "path": "team/app",
        "tag": "latest",
        "digest": DIGEST,
        "from": None,
        "to": None,
        "subject": "manifest",
        "target": None,
        "surface": "registry",
        "user": "alice",
        "client": "192.0.2.7",
        "outcome": "HIT",
        "request_id": "r1",
    }
    assert (second["event"], second["subject"], second["surface"]) == ("delete", "repository", "command")


def test_filters_select_together(terminal: Terminal) -> None:
    now, other = time.time(), str(Digest.of(b"other"))
    append(
        terminal.data,
        pull(now - 86400 * 3),
        pull(now - 10, "team/app/web", user="bob", digest=other),
        pull(now - 5, "library/alpine", user="bob"),
        delete(now),
    )

    def paths(*words: str) -> list[str]:
        return [event["path"] for event in terminal.json("audit", "list", *words)]

    assert paths("--since", "1d") == ["team/app/web", "library/alpine", "team/app"]
    assert paths("--since", at(now - 86400 * 4), "--path", "team/app:latest") == ["team/app", "team/app/web"]
    assert paths("--user", "bob") == ["team/app/web", "library/alpine"]
    assert paths("--user", "bob", "--path", "team") == ["team/app/web"]
    assert paths("--path", f"team@{other}") == ["team/app/web"]
    assert paths("--event", "delete", "--since", "1d") == ["team/app"]
    assert paths("--event", "push") == []


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--since", "yesterday"), "'yesterday' is not a time"),
        (("--since", "2999-01-01"), "'2999-01-01' is not in the past"),
        (("--path", "Team/App"), "'Team/App' must be lower-case"),
        (("--path", ""), "invalid repository name"),
        (("--path", "team/app:-"), "'-'"),
        (("--path", "team/app@sha256:1"), "sha256:1"),
    ],
)
def test_bad_input_is_refused(terminal: Terminal, words: tuple[str, ...], refusal: str) -> None:
    append(terminal.data, pull(time.time()))
    assert refusal in terminal.refused("audit", "list", *words)


def test_an_unknown_kind_of_event_is_wrong_usage(terminal: Terminal) -> None:
    code, _, err = terminal.run("audit", "list", "--event", "look")
    assert code == 2 and "'pull', 'push', 'delete', 'fill'" in err


def test_a_log_without_events_is_empty(terminal: Terminal) -> None:
    terminal.data.mkdir()
    assert terminal.json("audit", "list") == []
    assert terminal.done("audit", "list") == "At\tWho\tEvent\tPath\tDigest\tFrom\tTo\n"


def test_a_missing_data_folder_is_named(terminal: Terminal) -> None:
    assert "there is no data folder" in terminal.refused("audit", "list")


def test_a_damaged_log_is_named(terminal: Terminal) -> None:
    terminal.data.mkdir()
    audit_file(terminal.data).write_bytes(os.urandom(5000))
    assert f"{audit_file(terminal.data)} cannot be used" in terminal.refused("audit", "list")


def test_a_long_log_is_read_in_pages(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE_SIZE", 4)
    now = time.time()
    append(terminal.data, *(pull(now - 100 + number, f"team/app{number}") for number in range(12)))
    assert [event["path"] for event in terminal.json("audit", "list")] == [f"team/app{number}" for number in range(12)]


def deletions(terminal: Terminal) -> list[tuple[str, str, str | None, str | None, str | None]]:
    return [
        (event["subject"], event["path"], event["tag"], event["digest"], event["to"])
        for event in terminal.json("audit", "list", "--event", "delete")
    ]


def test_what_commands_delete_is_noted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    terminal.done("group", "create", "team")
    for project in ("team/app", "team/lib"):
        terminal.done("project", "create", project)
    digest = push(terminal.data, "team/app", "team/app", [b"one"], "v1")
    for repository in ("team/app/web", "team/app/api"):
        push(terminal.data, "team/app", repository, [b"one"], "v1")
    push(terminal.data, "team/lib", "team/lib", [b"one"], "v1")
    terminal.done("tag", "delete", "team/app:v1")
    terminal.done("repository", "delete", "team/app/api")
    terminal.done("project", "delete", "team/app")
    found = deletions(terminal)
    assert found[:2] == [("tag", "team/app", "v1", str(digest), None), ("repository", "team/app/api", None, None, None)]
    held = [("repository", path, None, None, None) for path in ("team/app", "team/app/web")]
    assert sorted(found[2:]) == [("project", "team/app", None, None, None), *held]
    listed = terminal.json("audit", "list")
    assert {(event["who"], event["surface"], event["user"]) for event in listed} == {
        ("command of carol", "command", None)
    }
    [tag] = [event for event in listed if event["subject"] == "tag"]
    assert tag["from"] == str(digest)


def test_what_commands_change_of_rights_is_noted(terminal: Terminal) -> None:
    terminal.done("user", "create", "ada")
    terminal.done("user", "update", "ada", "--admin")
    terminal.done("group", "create", "team")
    terminal.done("group", "update", "team", "--visibility", "public")
    terminal.done("project", "create", "team/app")
    terminal.done("project", "update", "team/app", "--registry", "private")
    terminal.done("member", "add", "team", "ada", "reporter")
    terminal.done("member", "add", "team", "ada", "owner")
    terminal.done("member", "remove", "team", "ada")
    token = terminal.json("token", "create", "--user", "ada", "--scope", "api", "--name", "ci")
    terminal.done("token", "revoke", str(token["id"]))
    deploy = terminal.json(
        "deploy-token", "create", "--project", "team/app", "--scope", "read_registry", "--name", "k8s"
    )
    terminal.done("deploy-token", "revoke", str(deploy["id"]))
    terminal.done("project", "protect", "team/app", "--immutable", "v.*")
    terminal.done("project", "unprotect", "team/app", "1")
    listed = terminal.json("audit", "list")
    noted = [(event["event"], event["subject"], event["path"], event["target"]) for event in listed]
    assert noted == [
        ("create", "user", "ada", None),
        ("update", "user", "ada", None),
        ("create", "group", "team", None),
        ("update", "group", "team", None),
        ("create", "project", "team/app", None),
        ("update", "project", "team/app", None),
        ("create", "member", "team", "ada"),
        ("update", "member", "team", "ada"),
        ("delete", "member", "team", "ada"),
        ("create", "personal token", "ada", f"{token['id']} (ci)"),
        ("delete", "personal token", "ada", f"{token['id']} (ci)"),
        ("create", "deploy token", "team/app", f"{deploy['id']} (k8s)"),
        ("delete", "deploy token", "team/app", f"{deploy['id']} (k8s)"),
        ("create", "protection rule", "team/app", "1"),
        ("delete", "protection rule", "team/app", "1"),
    ]
    assert [(listed[place]["from"], listed[place]["to"]) for place in (1, 3, 5, 7)] == [
        (None, "administrator"),
        ("visibility private", "visibility public"),
        ("registry enabled", "registry private"),
        ("reporter, does not expire", "owner, does not expire"),
    ]
    assert token["token"] not in str(listed) and deploy["token"] not in str(listed)
    assert "update\tteam (member ada)\t" in terminal.done("audit", "list", "--event", "update")


def test_what_commands_restore_and_pin_is_noted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    first = push(terminal.data, "team/app", "team/app", [b"one"], "v1")
    second = push(terminal.data, "team/app", "team/app", [b"two", b"three"], "v1")
    terminal.done("tag", "restore", "team/app:v1")
    terminal.done("tag", "restore", "team/app:v1", "--digest", str(first))
    terminal.done("tag", "delete", "team/app:v1")
    terminal.done("tag", "restore", "team/app:v1", "--digest", str(second))
    terminal.done("repository", "delete", "team/app")
    terminal.done("repository", "restore", "team/app")
    restored = terminal.json("audit", "list", "--event", "restore")
    assert [(event["subject"], event["path"], event["tag"], event["from"], event["to"]) for event in restored] == [
        ("tag", "team/app", "v1", str(second), str(first)),
        ("tag", "team/app", "v1", None, str(second)),
        ("repository", "team/app", None, None, None),
    ], "a restore of what is there changes nothing"
    terminal.done("group", "update", "team", "--as-of", "2026-03-05")
    terminal.done("project", "update", "team/app", "--as-of", "2026-03-06")
    terminal.done("project", "update", "team/app", "--visibility", "private")
    terminal.done("group", "update", "team", "--as-of", "now")
    fifth, sixth = "2026-03-05T00:00:00Z", "2026-03-06T00:00:00Z"
    pinned = terminal.json("audit", "list", "--event", "pin")
    assert [(event["subject"], event["path"], event["from"], event["to"], event["outcome"]) for event in pinned] == [
        ("group", "team", None, fifth, None),
        ("project", "team/app", fifth, sixth, None),
        ("group", "team", fifth, None, None),
    ]
    assert {event["who"] for event in [*restored, *pinned]} == {"command of carol"}
    assert f"restore\tteam/app:v1\t{str(first)[:19]}\t" in terminal.done("audit", "list", "--event", "restore")
    assert f"pin\tteam/app\t-\t{fifth}\t{sixth}" in terminal.done("audit", "list", "--event", "pin")


def test_a_deletion_that_cannot_be_noted_is_done_and_says_so(terminal: Terminal) -> None:
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", [b"one"], "v1")
    audit_file(terminal.data).unlink()
    audit_file(terminal.data).mkdir()
    code, out, err = terminal.run("tag", "delete", "team/app:v1")
    assert (code, out.startswith("deleted tag")) == (0, True)
    assert "warning: the audit log does not have this" in err


def test_nothing_is_noted_where_no_events_are_kept(terminal: Terminal) -> None:
    with terminal.config.open("a") as config:
        config.write('[audit]\nkeep = "0s"\n')
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", [b"one"], "v1")
    terminal.done("tag", "delete", "team/app:v1")
    assert not audit_file(terminal.data).exists() and deletions(terminal) == []
