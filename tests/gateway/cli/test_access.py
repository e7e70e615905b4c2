"""`access explain` as it is typed: the answer, the rule, and the exit code."""

import json

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import push


@pytest.fixture
def tree(terminal: Terminal) -> Terminal:
    """The group team with the project team/app, its developer alice, the stranger bob and the administrator root."""
    terminal.done("user", "create", "root", "--admin")
    for name in ("alice", "bob"):
        terminal.done("user", "create", name)
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    terminal.done("member", "add", "team/app", "alice", "developer")
    return terminal


def explained(terminal: Terminal, *words: str) -> str:
    """The answer for people, wherever it is printed."""
    code, out, err = terminal.run("access", "explain", *words)
    answer = f"{out}{err}".strip().removeprefix("registry-gateway: ")
    assert answer.startswith("allowed: " if code == 0 else "refused: ")
    assert "\n" not in answer
    return answer


def test_every_action_of_a_user_is_explained(tree: Terminal) -> None:
    alice = ("team/app/image", "--user", "alice")
    role = "user 'alice' is developer of project 'team/app'"
    assert explained(tree, "pull", *alice) == f"allowed: {role}: reporters and above may pull"
    assert explained(tree, "push", *alice) == f"allowed: {role}: developers and above may push"
    assert explained(tree, "delete", *alice).startswith(f"refused: {role}")
    assert explained(tree, "admin", *alice).endswith("maintainers and above may admin")
    assert explained(tree, "pull", "team/app", "--user", "bob").startswith("refused: project 'team/app' is private")
    assert explained(tree, "pull", "team/none", "--user", "root") == "refused: there is nothing at 'team/none'"


def test_a_group_means_its_dependency_proxy_and_its_settings(tree: Terminal) -> None:
    for path in ("hub", "hub/dependency_proxy/containers/alpine"):
        assert explained(tree, "pull", path, "--anonymous") == "allowed: group 'hub' allows anonymous pull"
        assert explained(tree, "push", path, "--anonymous").startswith("refused: images of an upstream")
    assert explained(tree, "admin", "team", "--user", "root").startswith("allowed: user 'root' is administrator")
    assert explained(tree, "pull", "team", "--anonymous").startswith("refused: an anonymous client")
    strange = "team/dependency_proxy/containers/nope.example/x"
    assert "not configured" in explained(tree, "pull", strange, "--user", "root")


def test_the_open_proxy_guard_is_that_of_the_settings(tree: Terminal) -> None:
    tree.config.write_text('external_url = "https://registry.example.com"\n')
    assert "allow_open_proxy" in explained(tree, "pull", "hub", "--anonymous")


def test_tokens_are_named_by_their_numbers_or_shown_on_standard_input(tree: Terminal) -> None:
    made = tree.json("token", "create", "--user", "alice", "--scope", "read_registry", "--name", "laptop")
    made_for = ("team/app", "--token")
    tree.json("deploy-token", "create", "--project", "team/app", "--name", "ci", "--scope", "write_registry")
    job = tree.json("job", "start", "team/app", "--user", "alice")
    assert explained(tree, "pull", *made_for, str(made["id"])).startswith(
        "allowed: personal token 1 (laptop) of user 'alice'"
    )
    assert "push needs api or write_registry" in explained(tree, "push", *made_for, "1")
    assert explained(tree, "push", *made_for, "deploy:1").startswith("allowed: deploy token 1")
    assert explained(tree, "delete", *made_for, "deploy:1").endswith("no deploy token may")
    assert explained(tree, "delete", *made_for, f"job:{job['id']}").startswith("allowed: job 1 of user 'alice'")
    words = ["access", "explain", "pull", "team/app", "--token", "-", "--data", str(tree.data), "--json"]
    shown = CliRunner().invoke(app, words, input=f"{made['token']}\n")
    assert (shown.exit_code, json.loads(shown.stdout)["allowed"]) == (0, True)
    tree.done("token", "revoke", "1")
    assert "was revoked" in explained(tree, "pull", *made_for, "1")


@pytest.mark.parametrize("suffix", [":v1", f"@sha256:{'ab' * 32}", f":v1@sha256:{'ab' * 32}"])
def test_a_tag_or_a_digest_changes_no_answer(tree: Terminal, suffix: str) -> None:
    for path in ("team/app", "team/app/image", "hub/dependency_proxy/containers/alpine"):
        for who in (("--user", "alice"), ("--anonymous",)):
            assert explained(tree, "pull", path + suffix, *who) == explained(tree, "pull", path, *who)


def test_protection_rules_are_explained(tree: Terminal) -> None:
    tree.done("member", "add", "team", "bob", "maintainer")
    push(tree.data, "team/app", "team/app/web", [b"one"], "v1")
    protect = ("project", "protect", "team/app")
    tree.done(*protect, "--tag", "v.*", "--push", "maintainer", "--delete", "owner")
    tree.done(*protect, "--immutable", "v1")
    tree.done(*protect, "--repository", "team/app/web", "--delete", "admin")
    alice, bob, web = ("--user", "alice"), ("--user", "bob"), "team/app/web"
    refused = explained(tree, "push", f"{web}:v2", *alice)
    assert refused == "refused: tag v2 is protected by tag rule 1 ('v.*'): maintainers and above may push it"
    assert explained(tree, "push", f"{web}:dev", *alice).startswith("allowed: ")
    assert explained(tree, "push", f"{web}:v2", *bob).startswith("allowed: ")
    assert "tag v1 is immutable by immutable rule 2 ('v1'): it stays at" in explained(tree, "push", f"{web}:v1", *bob)
    assert "owners and above may delete it" in explained(tree, "delete-tag", f"{web}:v2", *bob)
    assert "nobody may delete it" in explained(tree, "delete", f"{web}:v1", "--user", "root")
    assert "administrators may delete it" in explained(tree, "manage", web, *bob)
    assert explained(tree, "manage", web, "--user", "root").startswith("allowed: ")
    assert explained(tree, "pull", f"{web}:v1", *alice).startswith("allowed: ")


def test_the_document_is_printed_whatever_the_answer(tree: Terminal) -> None:
    code, out, err = tree.run("access", "explain", "push", "team/app", "--user", "bob", "--json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    assert list(document) == ["allowed", "reason"]
    assert document["allowed"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("team/app", "--user", "nobody"), "there is no user 'nobody'"),
        (("team/app", "--token", "99"), "there is no token '99': `registry-gateway token list` shows"),
        (
            ("team/app", "--token", "deploy:9"),
            "there is no token 'deploy:9': `registry-gateway deploy-token list`",
        ),
        (("team/app", "--token", "job:9"), "there is no token 'job:9': `registry-gateway job list --all` shows"),
        (("team/app", "--token", "-"), "no token has the secret on standard input"),
        (("team/app", "--token", "password:1"), "there is no token"),
        (("team/app", "--token", "x:y"), "is not a token"),
        (("Team/App", "--anonymous"), "is not a path"),
    ],
)
def test_who_or_what_there_is_not_is_said_in_a_line(tree: Terminal, words: tuple[str, ...], says: str) -> None:
    assert says in tree.refused("access", "explain", "pull", *words)


@pytest.mark.parametrize("parties", [(), ("--anonymous", "--user", "alice"), ("--user", "alice", "--token", "1")])
def test_one_party_is_named(tree: Terminal, parties: tuple[str, ...]) -> None:
    assert tree.run("access", "explain", "pull", "team/app", *parties)[0] == 2
