"""`project protect` and the like as they are typed, and what the rules keep commands from doing."""

import pytest

from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import push


@pytest.fixture
def pushed(terminal: Terminal) -> Terminal:
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", [b"one"], "v1", "latest")
    push(terminal.data, "team/app", "team/app/web", [b"two"], "dev")
    return terminal


def test_rules_are_made_listed_and_deleted(pushed: Terminal) -> None:
    words = ["project", "protect", "team/app"]
    made = pushed.json(*words, "--tag", "v.*", "--push", "maintainer", "--delete", "owner")
    created = made.pop("created_at")
    assert created.endswith("Z")
    assert made == {"id": 1, "kind": "tag", "pattern": "v.*", "push": "maintainer", "delete": "owner"}
    assert pushed.done(*words, "--immutable", "v1") == "made immutable rule 2 of project team/app: v1\n"
    said = pushed.done(*words, "--repository", "team/app/w*", "--push", "admin")
    assert said == "made repository rule 3 of project team/app: team/app/w*\n"
    assert pushed.done("project", "protection", "team/app").splitlines() == [
        "Id\tKind\tPattern\tPush\tDelete",
        "1\ttag\tv.*\tmaintainer\towner",
        "2\timmutable\tv1\t-\t-",
        "3\trepository\tteam/app/w*\tadmin\t-",
    ]
    pushed.done("project", "move", "team/app", "team/shop")
    assert pushed.json("project", "protection", "team/shop")[2]["pattern"] == "team/shop/w*"
    said = pushed.done("project", "unprotect", "team/shop", "2")
    assert said == "deleted immutable rule 2 of project team/shop: v1\n"
    assert [rule["id"] for rule in pushed.json("project", "protection", "team/shop")] == [1, 3]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "say what to protect: give one of --repository, --tag and --immutable"),
        (["--tag", "x", "--immutable", "x"], "say what to protect"),
        (["--tag", "x"], "a rule for tags names who may push them and who may delete them"),
        (["--tag", "x(", "--push", "owner", "--delete", "owner"], "'x(' is no regular expression of RE2"),
        (["--tag", "x", "--push", "developer"], "'developer' is no level: give --push one of maintainer, owner, admin"),
        (["--immutable", "x", "--push", "owner"], "immutable tags are so for everybody"),
        (["--repository", "x", "--push", "owner"], "the pattern 'x' matches nothing in project 'team/app'"),
        (["--repository", "team/app/x"], "a rule for repositories names who may push to them, or who may delete"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(pushed: Terminal, words: list[str], reason: str) -> None:
    assert pushed.refused("project", "protect", "team/app", *words).startswith(reason)
    assert pushed.json("project", "protection", "team/app") == []


def test_commands_are_those_of_an_administrator_whom_immutable_tags_alone_refuse(pushed: Terminal) -> None:
    words = ["project", "protect", "team/app"]
    pushed.done(*words, "--tag", "dev|latest", "--push", "admin", "--delete", "admin")
    pushed.done(*words, "--repository", "team/app*", "--push", "admin", "--delete", "admin")
    pushed.done(*words, "--immutable", "v.*")
    pushed.done("tag", "delete", "team/app:latest")
    pushed.done("repository", "delete", "team/app/web")
    kept = "tag v1 is immutable by immutable rule 3 ('v.*'): nobody may delete it"
    assert kept in pushed.refused("tag", "delete", "team/app:v1")
    assert kept in pushed.refused("repository", "delete", "team/app")
    assert kept in pushed.refused("repository", "move", "team/app", "team/app/aside")
    digest = push(pushed.data, "team/app", "team/app", [b"three"], "v2")
    refused = pushed.refused("tag", "restore", "team/app:v1", "--digest", str(digest))
    assert "tag v1 is immutable by immutable rule 3 ('v.*'): it stays at sha256:" in refused


def test_a_cleanup_keeps_what_a_rule_protects_and_names_the_rule(pushed: Terminal) -> None:
    pushed.done("project", "protect", "team/app", "--tag", "v.*", "--push", "maintainer", "--delete", "maintainer")
    everything = ["--cleanup", "--cleanup-keep-n", "none", "--cleanup-older-than", "none"]
    pushed.done("project", "update", "team/app", *everything)
    judged = pushed.json("cleanup", "run", "team/app", "--dry-run")
    assert [(each["name"], each["verdict"], each["rule"]) for each in judged] == [
        ("v1", "protected", "tag rule 1 ('v.*')"),
        ("latest", "latest", None),
        ("dev", "deleted", None),
    ]
    assert pushed.json("cleanup", "run", "team/app")["deleted"] == 1
    assert [tag["name"] for tag in pushed.json("tag", "list", "team/app")] == ["latest", "v1"]
