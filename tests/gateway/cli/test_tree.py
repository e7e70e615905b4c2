"""`user`, `project` and `member` as they are typed, and what the tree adds to `group`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.auth.passwords import matches
from gateway.cli import folder, output
from gateway.cli.folder import open_existing
from gateway.cli.output import Document, print_json_pages, print_table
from gateway.db import users
from gateway.settings.load import load
from gateway.settings.tables import Settings
from tests.gateway.cli.terminal import Terminal


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    assert "T" in document["created_at"]
    return {key: value for key, value in document.items() if key != "created_at"}


@pytest.fixture
def tree(terminal: Terminal) -> Terminal:
    """The users alice and root (an administrator), the groups team and team/sub, the project team/app."""
    terminal.done("user", "create", "root", "--admin")
    terminal.done("user", "create", "alice")
    terminal.done("group", "create", "team")
    terminal.done("group", "create", "team/sub")
    terminal.done("project", "create", "team/app")
    return terminal


# user


def test_a_user_is_created_shown_changed_and_deleted(terminal: Terminal) -> None:
    assert terminal.done("user", "create", "root", "--admin") == "created user root: active, administrator\n"
    alice = {
        "id": 2,
        "name": "alice",
        "state": "active",
        "admin": False,
        "external": False,
        "email": None,
        "has_password": False,
    }
    created = terminal.json("user", "create", "alice")
    assert without_time(created) == alice
    assert terminal.json("user", "show", "alice") == created
    options = ("--admin", "--external", "--block", "--email", "Alice@Example.com")
    changed = terminal.json("user", "update", "alice", *options)
    assert without_time(changed) == alice | {
        "state": "blocked",
        "admin": True,
        "external": True,
        "email": "alice@example.com",
    }
    assert terminal.json("user", "update", "alice") == changed
    assert [user["name"] for user in terminal.json("user", "list")] == ["alice", "root"]
    assert terminal.done("user", "list").splitlines() == [
        "Name\tState\tKind\tE-mail",
        "alice\tblocked\tadministrator, external\talice@example.com",
        "root\tactive\tadministrator\t-",
    ]
    options = ("--no-admin", "--no-external", "--unblock", "--email", "")
    assert terminal.json("user", "update", "alice", *options) == created
    assert terminal.done("user", "show", "alice").splitlines()[:5] == [
        "name\talice",
        "state\tactive",
        "kind\tregular",
        "e-mail\t-",
        "password changed\t-",
    ]
    assert terminal.done("user", "delete", "alice") == "deleted user alice: active, regular\n"
    assert [user["name"] for user in terminal.json("user", "list")] == ["root"]


def test_an_update_tells_what_it_changed(tree: Terminal) -> None:
    def told(*words: str) -> str:
        code, out, _ = tree.run(*words)  # a new cooldown is warned of on stderr
        assert code == 0
        return out.rstrip("\n").partition(": ")[2]

    assert told("group", "update", "team", "--cooldown", "3d", "--deny", "a/*") == "deny - → a/*, cooldown 0s → 3d"
    assert told("group", "update", "team", "--cooldown", "3d") == "nothing changed"
    login = ("--upstream-username", "u", "--upstream-password-file", tree.password(b"one"))
    assert told("group", "update", "team", *login) == "upstream login - → u"
    changed = ("group", "update", "team", "--upstream-password-file", tree.password(b"two"))
    assert told(*changed) == "upstream password"
    assert told(*changed, "--fresh-only") == "fresh only no → yes, upstream password"
    assert told("project", "update", "team/app", "--quota", "10GiB", "--job-allow", "team") == (
        "quota - → 10 GiB, job allow - → team"
    )
    blocked = told("user", "update", "alice", "--block", "--email", "a@b.test")
    assert blocked == "state active → blocked, e-mail - → a@b.test"
    password = ("user", "update", "alice", "--password-file", tree.password(b"long enough"))
    assert re.fullmatch(r"password changed - → (now|\d+ s ago)", told(*password))


async def password_hash_of(name: str, settings: Settings) -> str | None:
    async with open_existing(settings) as database, database.read() as connection:
        return (await users.get(connection, name)).password_hash


def test_a_password_is_stored_as_a_hash(terminal: Terminal) -> None:
    created = terminal.json("user", "create", "alice", "--password-file", terminal.password(b"correct horse\r\n"))
    assert created["has_password"] is True
    assert re.search(r"password changed\t(now|\d+ s ago)\n", terminal.done("user", "show", "alice"))
    terminal.done("user", "update", "alice", "--password-file", terminal.password("neues Paßwort".encode()))
    stored = asyncio.run(password_hash_of("alice", load(terminal.config, {}, {"data": str(terminal.data)}).settings))
    assert stored is not None
    assert matches(stored, "neues Paßwort")
    assert not matches(stored, "correct horse")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (b"short", "the password has 5 characters: use at least 8"),
        (b"rgpat-and-more", "the password begins like the secret of a token, for which it would be taken: use another"),
        (b"x" * 1025, "the password has 1025 characters: use at most 1024"),
        (b"one line\nand another", "the password has more than one line: use a single one, as login prompts do"),
    ],
)
def test_a_password_of_another_length_is_refused(terminal: Terminal, password: bytes, reason: str) -> None:
    assert terminal.refused("user", "create", "alice", "--password-file", terminal.password(password)) == reason
    assert not terminal.data.exists()


# project


def test_a_project_is_created_shown_changed_and_deleted(tree: Terminal) -> None:
    created = tree.json("project", "create", "alice/tool", "--visibility", "public")
    assert without_time(created) == {
        "id": 2,
        "path": "alice/tool",
        "visibility": "public",
        "registry": "enabled",
        "quota": None,
        "pinned_at": None,
        "cleanup": None,
        "job_allow": [],
        "stored_bytes": 0,
    }
    assert tree.json("project", "show", "alice/tool") == created
    allowed = ("--job-allow", "team/sub", "--job-allow", "team/app")
    changed = tree.json(
        "project", "update", "alice/tool", "--visibility", "internal", "--registry", "disabled", *allowed
    )
    assert changed == created | {
        "visibility": "internal",
        "registry": "disabled",
        "job_allow": ["team/app", "team/sub"],
    }
    assert tree.json("project", "update", "alice/tool") == changed
    assert tree.done("project", "show", "alice/tool").splitlines()[:5] == [
        "path\talice/tool",
        "visibility\tinternal",
        "registry\tdisabled",
        "job allow\tteam/app",
        "job allow\tteam/sub",
    ]
    assert tree.json("project", "update", "alice/tool", "--job-allow", "team")["job_allow"] == ["team"]
    assert tree.json("project", "update", "alice/tool", "--job-allow", "")["job_allow"] == []
    assert tree.done("project", "list").splitlines() == [
        "Path\tVisibility\tRegistry",
        "alice/tool\tinternal\tdisabled",
        "team/app\tprivate\tenabled",
    ]
    assert [project["path"] for project in tree.json("project", "list", "team")] == ["team/app"]
    assert tree.json("project", "list", "team/sub") == []
    done = "deleted project alice/tool: internal, container registry disabled\n"
    assert tree.done("project", "delete", "alice/tool") == done
    assert [project["path"] for project in tree.json("project", "list")] == ["team/app"]


def test_the_quota_of_a_project_and_a_group_is_set_shown_and_dropped(tree: Terminal) -> None:
    assert tree.json("project", "update", "team/app", "--quota", "10GiB")["quota"] == 10 * 1024**3
    assert tree.json("project", "update", "team/app", "--visibility", "private")["quota"] == 10 * 1024**3
    assert "quota\t10 GiB\nstored\t0 bytes\n" in tree.done("project", "show", "team/app")
    assert tree.json("project", "update", "team/app", "--quota", "0")["quota"] == 0
    assert tree.json("project", "update", "team/app", "--quota", "")["quota"] is None
    assert tree.json("group", "update", "team", "--quota", "1TiB")["quota"] == 1024**4
    assert "quota\t1.0 TiB\n" in tree.done("group", "show", "team")
    assert tree.json("group", "update", "team", "--quota", "")["quota"] is None
    for words in (("project", "update", "team/app"), ("group", "create", "new")):
        for size in ("10", "80%", "-1GiB", "much"):
            assert tree.refused(*words, f"--quota={size}") == (
                f'{size!r} is no quota: give --quota a size such as 500MiB or 10GiB, or "" for none'
            )


# member


def test_members_are_added_listed_with_their_source_changed_and_removed(tree: Terminal) -> None:
    added = tree.done("member", "add", "team", "alice", "reporter", "--expires", "2999-01-31")
    assert added == "added member alice of team: reporter, expires 2999-01-31T00:00:00Z\n"
    inherited = {
        "user": "alice",
        "role": "reporter",
        "source": "team",
        "expires": "2999-01-31T00:00:00Z",
        "active": True,
    }
    own = {"user": "alice", "role": "owner", "source": "team/app", "expires": None, "active": True}
    assert tree.json("member", "add", "team/app", "alice", "Owner") == own
    assert tree.json("member", "list", "team") == tree.json("member", "list", "team/sub") == [inherited]
    assert tree.json("member", "list", "team/app") == [inherited, own]
    assert tree.done("member", "list", "team/app").splitlines() == [
        "User\tRole\tSource\tExpires",
        "alice\treporter\tteam\t2999-01-31",
        "alice\towner\tteam/app\tnever",
    ]
    changed = "changed member alice of team/app: role owner → developer\n"
    assert tree.done("member", "add", "team/app", "alice", "developer") == changed
    assert tree.json("member", "remove", "team/app", "alice") == own | {"role": "developer"}
    assert tree.json("member", "list", "team/app") == [inherited]


def test_the_owner_of_a_namespace_is_listed(tree: Terminal) -> None:
    tree.done("project", "create", "alice/tool")
    owner = {"user": "alice", "role": "owner", "source": "alice", "expires": None, "active": True}
    assert tree.json("member", "list", "alice/tool") == tree.json("member", "list", "alice") == [owner]


# Refusals


REFUSALS = [
    ("user create alice", "user 'alice' exists already: choose another path, or update it"),
    ("user create team", "group 'team' exists already: choose another path, or update it"),
    ("user create bob --email bob", "'bob' is not an e-mail address: write it as NAME@HOST"),
    (
        "user create bob_",
        "user name 'bob_' is not fit for image names, because 'bob_' ends with '_': use a name such as 'bob'",
    ),
    ("user show bob", "there is no user 'bob': `registry-gateway user list` shows those there are"),
    (
        "user update root --block",
        "user 'root' is the last active administrator: make another user an administrator first",
    ),
    (
        "user update root --no-admin",
        "user 'root' is the last active administrator: make another user an administrator first",
    ),
    (
        "user delete root",
        "user 'root' is the last active administrator: make another user an administrator first",
    ),
    ("project create team/app", "project 'team/app' exists already: choose another path, or update it"),
    ("project create x/y", "project 'x/y' needs the group or user 'x' above it: create that first"),
    (
        "project create team/b --visibility public",
        "project 'team/b' cannot be public in the private group 'team': make it private, or the group public",
    ),
    ("project show team", "there is no project 'team': `registry-gateway project list` shows those there are"),
    (
        "project update team/app --job-allow alice",
        "project 'team/app' cannot allow the jobs of user 'alice': name a project or a group",
    ),
    (
        "project update team/app --registry private --job-allow x",
        "there is no group, project or user 'x': "
        "`registry-gateway group list` and `registry-gateway project list` show those there are",
    ),
    ("group create alice", "user 'alice' exists already: choose another path, or update it"),
    ("group create alice/x", "group 'alice/x' cannot lie in the user 'alice': only groups hold groups"),
    ("group delete team", "group 'team' holds team/app, team/sub: delete what is inside it first"),
    (
        "group update team/sub --visibility internal",
        "group 'team/sub' cannot be internal in the private group 'team': make it private, or the group internal",
    ),
    ("member add team bob guest", "there is no user 'bob': `registry-gateway user list` shows those there are"),
    (
        "member add alice alice owner",
        "the namespace of user 'alice' has no members: add them to a project in it",
    ),
    ("member add team alice owner --expires 2020-01-01", "'2020-01-01' is not in the future: use a later time"),
    ("member remove team alice", "user 'alice' is not a member of 'team'"),
]


def test_what_is_refused_says_why_and_changes_nothing(tree: Terminal) -> None:
    lists = [("user", "list"), ("project", "list"), ("group", "list"), ("member", "list", "team")]
    before = [tree.json(*words) for words in lists]
    for words, reason in REFUSALS:
        assert tree.refused(*words.split()) == reason
    assert [tree.json(*words) for words in lists] == before


def test_a_role_that_takes_nothing_away_is_refused(tree: Terminal) -> None:
    tree.done("member", "add", "team", "alice", "maintainer")
    refusal = tree.refused("member", "add", "team/app", "alice", "guest")
    assert refusal.startswith("user 'alice' is maintainer of 'team', which holds in 'team/app' too: guest would take")
    refusal = tree.refused("member", "remove", "team/app", "alice")
    assert refusal == "user 'alice' is a member of 'team/app' only by way of 'team': change the role there"


def test_a_group_stays_as_visible_as_what_it_holds(tree: Terminal) -> None:
    for path in ("team", "team/sub"):
        tree.done("group", "update", path, "--visibility", "public")
    tree.done("project", "update", "team/app", "--visibility", "internal")
    refusal = tree.refused("group", "update", "team", "--visibility", "private")
    assert refusal == (
        "group 'team' cannot be private, because what it holds is more visible (team/app, team/sub): "
        "make that private first"
    )


def test_wrong_usage_has_an_exit_code_of_its_own(terminal: Terminal) -> None:
    for words in ("user create bob --no-block", "member add team alice boss", "user create"):
        code, out, err = terminal.run(*words.split())
        assert (code, out) == (2, "")
        assert "Error: " in err
    assert not terminal.data.exists()


def test_only_create_makes_a_data_folder(terminal: Terminal) -> None:
    for words in (
        "user list",
        "user delete a",
        "project list",
        "project show a/b",
        "member list a",
        "member add a b guest",
    ):
        assert terminal.refused(*words.split()).startswith(f"there is no data folder {terminal.data}: ")
    assert not terminal.data.exists()


@pytest.mark.parametrize("words", ["user create", "group create"])
def test_a_path_that_clients_take_for_a_host_is_warned_of(terminal: Terminal, words: str) -> None:
    warning = (
        "registry-gateway: warning: clients take 'my.team' for the host of a registry in every image name that has no "
        "host before it: always write the host, or choose a name without a dot other than localhost\n"
    )
    code, _, err = terminal.run(*words.split(), "my.team")
    assert (code, err) == (0, warning)
    code, _, err = terminal.run("project", "create", "my.team/app")
    assert (code, err) == (0, warning)
    terminal.done("project", "update", "my.team/app", "--registry", "private")


def test_a_listing_holds_one_page(tree: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ben", "cid"):
        tree.done("user", "create", name)
        tree.done("project", "create", f"{name}/app")
    sizes: list[int] = []

    def print_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        sizes.append(len(rows))
        print_table(headings, rows)

    for words in (("user", "list"), ("project", "list")):
        monkeypatch.undo()
        whole, lines = tree.json(*words), tree.done(*words)
        monkeypatch.setattr(output, "print_table", print_lines)
        for size in (1, 2, len(whole)):
            monkeypatch.setattr(folder, "PAGE_SIZE", size)
            sizes.clear()
            assert tree.done(*words) == lines
            assert max(sizes) == size
            assert tree.json(*words) == whole


def test_pages_are_printed_as_the_whole_array_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    async def pages(sizes: Sequence[int]) -> AsyncIterator[list[Document]]:
        for size in sizes:
            yield [{"name": "a\nb", "kinds": ["x"]}] * size

    for sizes in ((0,), (1,), (2, 0), (2, 1), (2, 2)):
        asyncio.run(print_json_pages(pages(sizes)))
        expected = json.dumps([{"name": "a\nb", "kinds": ["x"]}] * sum(sizes), indent=2)
        assert capsys.readouterr().out == f"{expected}\n"


def test_every_time_is_written_in_one_form(tree: Terminal) -> None:
    tree.done("user", "create", "zoe", "--password-file", tree.password(b"long enough"))
    tree.done("member", "add", "team", "zoe", "developer", "--expires", "2999-01-31")
    tree.done("token", "create", "--user", "zoe", "--scope", "api", "--name", "t")
    tree.done("token", "revoke", "1")
    tree.done("deploy-token", "create", "--group", "team", "--scope", "read_registry", "--name", "d")
    tree.done("job", "start", "team/app", "--user", "zoe")
    tree.done("keys", "rotate")
    listed = [
        *(("group", "show", "team"), ("group", "list"), ("project", "show", "team/app"), ("project", "list")),
        *(("user", "show", "zoe"), ("user", "list"), ("member", "list", "team"), ("token", "list"), ("job", "list")),
        *(("deploy-token", "list"), ("keys", "list")),
    ]
    for words in listed:
        for found in re.finditer(r"\d{4}-\d{2}-\d{2}.{0,16}", tree.done(*words, "--json")):
            assert re.match(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", found[0]), (words, found[0])
        for found in re.finditer(r"\d{4}-\d{2}-\d{2}\S*", tree.done(*words)):  # the day, but in a sentence
            assert re.fullmatch(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}Z)?", found[0]), (words, found[0])
    said = tree.run("access", "explain", "pull", "team/app", "--token", "1")[2]
    assert re.search(r"was revoked at \d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", said)
