"""`group move`, `project move` and `repository move` as they are typed."""

import re

import pytest

from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import push


@pytest.fixture
def pushed(terminal: Terminal) -> Terminal:
    """The groups team and build, and the project team/app with two repositories."""
    for path in ("team", "build"):
        terminal.done("group", "create", path)
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", [b"base" * 500], "v1")
    push(terminal.data, "team/app", "team/app/web", [b"base" * 500], "v1")
    return terminal


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:]+Z", "TIME", text)


def test_each_move_tells_what_moved_and_until_when_the_old_path_leads_to_it(pushed: Terminal) -> None:
    kept = "until TIME the old path is pulled from too, and stays reserved (undo: registry-gateway"
    assert without_times(pushed.done("group", "move", "team", "build/team")) == (
        f"moved group team to build/team with 1 project and 2 repositories; {kept} group move build/team team)\n"
    )
    assert without_times(pushed.done("project", "move", "build/team/app", "build/a")) == (
        f"moved project build/team/app to build/a with 2 repositories; {kept} project move build/a build/team/app)\n"
    )
    assert without_times(pushed.done("repository", "move", "build/a/web", "build/a/site")) == (
        f"moved repository build/a/web to build/a/site; {kept} repository move build/a/site build/a/web)\n"
    )
    assert [found["path"] for found in pushed.json("repository", "list")] == ["build/a", "build/a/site"]
    moved = pushed.json("project", "move", "build/a", "build/team/app")
    until = moved.pop("old_path_until")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:]+Z", until)
    assert moved == {
        "id": 1,
        "path": "build/team/app",
        "old_path": "build/a",
        "projects": 1,
        "repositories": 2,
    }


def test_an_old_path_is_not_kept_where_the_settings_say_so(pushed: Terminal) -> None:
    pushed.config.write_text(pushed.config.read_text() + '[names]\nold_paths = "0s"\n')
    told = pushed.done("repository", "move", "team/app/web", "team/app/site")
    assert told == "moved repository team/app/web to team/app/site; its old path leads nowhere any more\n"
    assert pushed.json("project", "move", "team/app", "build/app")["old_path_until"] is None
    assert "created project team/app" in pushed.done("project", "create", "team/app")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("group", "move", "none", "other"), "there is no group 'none': `registry-gateway group list` shows"),
        (("group", "move", "team", "build"), "group 'team' cannot move to 'build', which is the path of a group"),
        (("group", "move", "team", "team/app/x"), "group 'team' cannot move below itself"),
        (("project", "move", "team/app", "none/app"), "needs the group or user 'none' above it: create that first"),
        (("project", "move", "team/app", "app"), "names no group or user that holds the project"),
        (("repository", "move", "team/app/none", "team/app/x"), "there is no repository 'team/app/none'"),
        (("repository", "move", "team/app/web", "build/web"), "lies in no project: create that first"),
        (("repository", "move", "team/app/web", "team/app"), "which is the path of a repository: choose another"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_move_that_cannot_be_is_refused_in_clear_words(pushed: Terminal, words: tuple[str, ...], said: str) -> None:
    assert said in pushed.refused(*words)


def test_what_would_take_an_old_path_is_told_what_has_moved(pushed: Terminal) -> None:
    pushed.done("group", "move", "team", "crew")
    for words in (("group", "create", "team"), ("user", "create", "team"), ("group", "move", "build", "team")):
        said = without_times(pushed.refused(*words))
        assert "is refused, because 'team' is the old path of group 'crew' until TIME" in said
        assert "choose another path, or move 'crew' back" in said
    pushed.done("group", "move", "crew", "team")
    assert "created project team/new" in pushed.done("project", "create", "team/new")


def test_commands_name_the_new_path_of_what_is_sought_at_the_old_one(pushed: Terminal) -> None:
    pushed.done("group", "move", "team", "crew")
    for kind, old, new in (("group", "team", "crew"), ("project", "team/app", "crew/app")):
        said = f"there is no {kind} {old!r}, which has moved to {new!r}: `registry-gateway {kind} list`"
        assert said in pushed.refused(kind, "show", old)
    for words in (("repository", "show", "team/app/web"), ("tag", "list", "team/app/web")):
        assert "'team/app/web', which has moved to 'crew/app/web': " in pushed.refused(*words)
    assert "moved" not in pushed.refused("group", "show", "other")


def test_each_move_is_an_event_of_the_audit_log(pushed: Terminal) -> None:
    moved = [("group", "team", "build/team"), ("project", "build/team/app", "build/app")]
    moved.append(("repository", "build/app/web", "build/app/site"))
    for kind, old, new in moved:
        pushed.done(kind, "move", old, new)
    listed = pushed.json("audit", "list", "--event", "move")
    assert [(event["subject"], event["from"], event["to"]) for event in listed] == moved
    assert all(event["path"] == event["to"] and event["who"].startswith("command of ") for event in listed)
    assert "build/team/app" in pushed.done("audit", "list", "--event", "move", "--path", "build/app")


def test_what_lacks_room_is_refused_with_the_figures(pushed: Terminal) -> None:
    pushed.done("group", "update", "build", "--quota", "1KiB")
    said = pushed.refused("project", "move", "team/app", "build/app")
    assert "group 'build' has a quota of 1.0 KiB, of which 0 bytes are stored" in said


def test_a_deleted_repository_is_restored_by_the_name_that_its_deletion_told(pushed: Terminal) -> None:
    told = pushed.done("repository", "delete", "team/app/web")
    [way_back] = re.findall(r"`registry-gateway (repository restore [a-z/]+)`", told)
    pushed.done("group", "move", "team", "build/team")
    pushed.done("project", "move", "build/team/app", "build/shop")
    assert pushed.done(*way_back.split()).startswith("restored repository build/shop/web: 1 tags")
    assert [event["path"] for event in pushed.json("audit", "list", "--event", "restore")] == ["build/shop/web"]
