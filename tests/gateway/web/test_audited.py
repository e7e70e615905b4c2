"""The audit log: every form of the pages that changes something leaves its event there, as the REST API does."""

import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.audit.event import AuditEvent, Surface
from gateway.audit.file import AuditQuery, read_events
from tests.gateway.api.rest import AUDIT
from tests.gateway.api.test_group_caches import cached

from .browsing import PASSWORD, Fields, Site, open_site
from .listing import every_route

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = "/-/profile/personal_access_tokens"
REGISTRY = "/team/app/container_registry"
NEW = "another password"
PUBLIC = [("visibility", "public")]
MADE = [("name", "fresh"), ("visibility", "private")]
RULES = "/{project:path}/-/settings/protection_rules"
ONE = "/{project:path}/container_registry/{id}"
USERS = "/admin/users"
PROXY, CACHE = "/groups/{group:path}/-/dependency_proxy", "/groups/team/-/dependency_proxy"
IMAGE, CACHED = [("image", "alpine:3.20")], "team/dependency_proxy/containers/library/alpine"


@dataclass(frozen=True)
class Step:
    """A form that somebody sends. `path`: with `<TABLE>` for the id of the row that was made last. `told`: the event
    that is to be there then, as `words_of` writes it; empty where the form changes nothing that is told."""

    route: str
    path: str
    fields: Fields
    told: str
    who: str = "maintainer"


MOVES = [
    Step("/-/new/group", "/-/new/group", MADE, "group_create fresh: None -> visibility private", "root"),
    Step("/-/new/group", "/-/new/group", MADE, "", "root"),
    Step("/-/new/project", "/-/new/project", [*MADE, ("above", "fresh")], "project_create fresh/fresh: None", "root"),
    Step(
        "/groups/{group:path}/-/edit", "/groups/fresh/-/edit", [("visibility", "public")], "group_update fresh", "root"
    ),
    Step(
        "/{project:path}/-/settings/path",
        "/fresh/fresh/-/settings/path",
        [("path", "app")],
        "project_move fresh/app: fresh/fresh -> fresh/app",
        "root",
    ),
    Step(
        "/groups/{group:path}/-/settings/path",
        "/groups/fresh/-/settings/path",
        [("path", "stale")],
        "group_move stale: fresh -> stale",
        "root",
    ),
    Step(
        "/{project:path}/-/settings/transfer",
        "/stale/app/-/settings/transfer",
        [("above", "team/sub")],
        "project_move team/sub/app: stale/app -> team/sub/app",
        "root",
    ),
    Step(
        "/groups/{group:path}/-/settings/transfer",
        "/groups/stale/-/settings/transfer",
        [("above", "open")],
        "group_move open/stale: stale -> open/stale",
        "root",
    ),
    Step(
        f"{ONE}/move",
        f"{REGISTRY}/<repositories>/move",
        [("path", "team/app/moved")],
        "repository_move team/app/moved: team/app/web -> team/app/moved",
    ),
    Step(
        "/{project:path}/-/settings/delete",
        "/team/sub/app/-/settings/delete",
        [("confirmation", "team/sub/app")],
        "project_delete team/sub/app",
        "root",
    ),
    Step(
        "/groups/{group:path}/-/settings/delete",
        "/groups/open/stale/-/settings/delete",
        [("confirmation", "open/stale")],
        "group_delete open/stale",
        "root",
    ),
]
"""Forms that make, move and delete groups, projects and repositories."""

STEPS = [
    Step(
        "/{project:path}/edit",
        "/team/app/edit",
        [("visibility", "private"), ("container_registry_access_level", "private")],
        "project_update team/app: registry enabled -> registry private",
    ),
    Step(
        "/{project:path}/-/settings/packages_and_registries",
        "/team/app/-/settings/packages_and_registries",
        [("cadence", "7d"), ("name_regex_delete", "x")],
        "cleanup policy_update team/app",
    ),
    *(
        step
        for members, pattern, path, who in (
            ("/{project:path}/-/project_members", "/team/app/-/project_members", "team/app", "maintainer"),
            ("/groups/{group:path}/-/group_members", "/groups/closed/-/group_members", "closed", "root"),
        )
        for step in (
            Step(
                members,
                pattern,
                [("username", "stranger"), ("role", "reporter")],
                f"member_create {path} stranger: None -> reporter, does not expire",
                who,
            ),
            Step(members, pattern, [("username", "nobody"), ("role", "reporter")], "", who),
            Step(
                f"{members}/{{id}}",
                f"{pattern}/<members.user_id>",
                [("role", "developer"), ("expires_at", "2999-01-01")],
                f"member_update {path} stranger: reporter, does not expire -> developer, expires 2999-01-01T00:00:00Z",
                who,
            ),
            Step(
                f"{members}/{{id}}/remove",
                f"{pattern}/<members.user_id>/remove",
                [],
                f"member_delete {path} stranger: developer, expires 2999-01-01T00:00:00Z",
                who,
            ),
        )
    ),
    *(
        step
        for pattern, base, path, who in (
            ("/{project:path}/-/settings", "/team/app/-/settings", "team/app", "maintainer"),
            ("/groups/{group:path}/-/settings", "/groups/team/-/settings", "team", "root"),
        )
        for kind, fields, made, ended, table in (
            (
                "access_tokens",
                [("name", "x"), ("role", "reporter"), ("scope", "api")],
                f"token_grant {path}: None -> access token",
                f"token_revoke {path}: access token",
                "personal_tokens",
            ),
            (
                "deploy_tokens",
                [("name", "x"), ("scope", "read_registry")],
                f"deploy token_create {path} x: None -> read_registry, does not expire",
                f"deploy token_delete {path} x: read_registry",
                "deploy_tokens",
            ),
        )
        for step in (
            Step(f"{pattern}/{kind}", f"{base}/{kind}", fields, made, who),
            Step(f"{pattern}/{kind}", f"{base}/{kind}", fields[:-1], "", who),
            Step(f"{pattern}/{kind}/{{id}}/revoke", f"{base}/{kind}/<{table}>/revoke", [], ended, who),
        )
    ),
    Step(
        RULES,
        "/team/app/-/settings/protection_rules",
        [("kind", "tag"), ("pattern", "v.*"), ("push", "maintainer"), ("delete", "owner")],
        "protection rule_create team/app 1: None -> tag v.*, push maintainer, delete owner",
    ),
    Step(RULES, "/team/app/-/settings/protection_rules", [("kind", "tag"), ("pattern", "(")], ""),
    Step(
        f"{RULES}/{{id}}",
        "/team/app/-/settings/protection_rules/1",
        [("push", "admin"), ("delete", "owner")],
        "protection rule_update team/app 1: tag v.*, push maintainer, delete owner -> tag v.*, push admin",
    ),
    Step(
        f"{RULES}/{{id}}/delete",
        "/team/app/-/settings/protection_rules/1/delete",
        [],
        "protection rule_delete team/app 1: tag v.*, push admin, delete owner",
    ),
    *(
        Step(f"{pattern}/-/settings/quota", f"{base}/-/settings/quota", [("quota", size)], told, "root")
        for pattern, base, kind, path in (
            ("/{project:path}", "/team/app", "project", "team/app"),
            ("/groups/{group:path}", "/groups/team", "group", "team"),
        )
        for size, told in (
            ("10GiB", f"{kind}_update {path}: None -> quota {10 << 30}"),
            ("much", ""),
            ("", f"{kind}_update {path}: quota {10 << 30} -> None"),
        )
    ),
    Step(TOKENS, TOKENS, [("name", "x"), ("scope", "api")], "personal token_create maintainer x: None -> api"),
    Step(
        f"{TOKENS}/{{id}}/revoke", f"{TOKENS}/<personal_tokens>/revoke", [], "personal token_delete maintainer x: api"
    ),
    Step(f"{ONE}/remove_tags", f"{REGISTRY}/<repositories>/remove_tags", [("tag", "v1")], ""),
    Step(
        f"{ONE}/remove_tags",
        f"{REGISTRY}/<repositories>/remove_tags",
        [("tag", "v1"), ("confirmed", "yes")],
        "tag_delete team/app/web:v1: sha256 -> None",
    ),
    Step(
        f"{ONE}/tags/{{tag}}/restore",
        f"{REGISTRY}/<repositories>/tags/v1/restore",
        [],
        "tag_restore team/app/web:v1: None -> sha256",
    ),
    Step(f"{ONE}/delete", f"{REGISTRY}/<repositories>/delete", [("confirmation", "wrong")], ""),
    Step(
        f"{ONE}/delete",
        f"{REGISTRY}/<repositories>/delete",
        [("confirmation", "team/app/web")],
        "repository_delete team/app/web",
    ),
    Step(f"{ONE}/restore", f"{REGISTRY}/<repositories>/restore", [], "repository_restore team/app/web"),
    Step(
        f"{PROXY}/image/pin",
        f"{CACHE}/image/pin",
        IMAGE,
        f"repository_update {CACHED} 3.20: None -> pinned in the cache",
        "root",
    ),
    Step(
        f"{PROXY}/image/unpin",
        f"{CACHE}/image/unpin",
        IMAGE,
        f"repository_update {CACHED} 3.20: pinned in the cache -> None",
        "root",
    ),
    Step(f"{PROXY}/image/evict", f"{CACHE}/image/evict", IMAGE, "", "root"),
    Step(
        f"{PROXY}/image/evict",
        f"{CACHE}/image/evict",
        [*IMAGE, ("confirmed", "yes")],
        f"repository_evict {CACHED}:3.20",
        "root",
    ),
    Step(f"{PROXY}/purge", f"{CACHE}/purge", [], "group_evict team", "root"),
    Step(USERS, USERS, [("username", "newborn")], "user_create newborn: None -> active", "root"),
    Step(f"{USERS}/{{id}}/block", f"{USERS}/<users>/block", [], "user_update newborn: active -> blocked", "root"),
    Step(f"{USERS}/{{id}}/unblock", f"{USERS}/<users>/unblock", [], "user_update newborn: blocked -> active", "root"),
    Step(
        f"{USERS}/{{id}}/rights",
        f"{USERS}/<users>/rights",
        [("admin", "yes")],
        "user_update newborn: None -> administrator",
        "root",
    ),
    Step(f"{USERS}/{{id}}/delete", f"{USERS}/<users>/delete", [("confirmation", "x")], "", "root"),
    Step(
        f"{USERS}/{{id}}/delete",
        f"{USERS}/<users>/delete",
        [("confirmation", "newborn")],
        "user_delete newborn: active, administrator -> None",
        "root",
    ),
    *MOVES,
    Step(
        "/-/profile/password",
        "/-/profile/password",
        [
            ("current_password", PASSWORD),
            ("new_password", "another password"),
            ("repeated_password", "another password"),
        ],
        "user_update reporter",
        "reporter",
    ),
]
"""Forms in an order in which each can be sent."""

UNTOLD = {"/users/sign_in", "/users/sign_out", "/users/sign_out_everywhere", f"{PROXY}/image/refresh", "/admin/doctor"}
"""Forms that change sessions alone, which are in the log of requests, and two that change nothing."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        await site.rest.surface.push_image("team/app/web", "v1")
        await cached(site.rest, "alpine:3.20")
        yield site


def events(site: Site) -> Sequence[AuditEvent]:
    """What pages have left in the audit log, in its order."""
    site.rest.services.audit.flush()
    path = site.rest.services.folder.data / AUDIT
    written = [one.event for one in read_events(path, AuditQuery(), None, 1000)]
    return [event for event in written if event.surface is Surface.PAGES]


def words_of(event: AuditEvent) -> str:
    """What an event says, without numbers, digests and times, in one line."""
    named = f"{event.subject.value}_{event.event.value} {event.path}" + (f":{event.tag}" if event.tag else "")
    target = "" if event.target is None else " " + re.sub(r"^\d+ \((.*)\)$", r"\1", event.target)
    ends = ["None" if end is None else end for end in event.ends]
    changed = f": {' -> '.join(ends)}" if ends != ["None", "None"] else ""
    return re.sub(r"sha256:\w+", "sha256", named + target + changed)


def latest(folder: Path, path: str) -> str:
    """A path with the ids, or another column, of the rows that were made last."""
    with closing(sqlite3.connect(folder / "gateway.db")) as connection:

        def found(place: re.Match[str]) -> str:
            query = f"SELECT {place[2] or 'id'} FROM {place[1]} ORDER BY id DESC LIMIT 1"
            return str(connection.execute(query).fetchone()[0])

        return re.sub(r"<(\w+)(?:\.(\w+))?>", found, path)


async def test_the_steps_name_every_form() -> None:
    forms = {route.pattern for route in every_route() if route.method != "GET"}
    assert {step.route for step in STEPS} == forms - UNTOLD


async def test_every_change_leaves_its_event_and_nothing_else_does(site: Site) -> None:
    browsers = {who: await site.browser(who) for who in {step.who for step in STEPS}}
    for step in STEPS:
        before = len(events(site))
        path = latest(site.rest.services.folder.data, step.path)
        answer = await browsers[step.who].post(path, step.fields)
        left = events(site)[before:]
        assert answer.status in ((200, 303) if step.told else (200, 422)), (step, answer.body)
        told = [words_of(event) for event in left]
        assert len(told) == bool(step.told), (step, told)
        assert all(words.startswith(step.told) for words in told), (step, told)
        for event in left:
            assert (event.user, event.request_id, event.who) == (step.who, "tests", f"user {step.who!r}")
            assert event.client is not None
