"""Webhooks, the audit log and the rate limits of a running server: python-gitlab through its own objects, and curl as
the pages write it."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import gitlab
import pytest

from tests.parts.canaries import found_in, remember
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import Images
from tests.parts.pages import PAGES, blocks
from tests.parts.ports import HOST, free_port
from tests.parts.postgresql import Databases
from tests.parts.processes import plain_environment, wait_until

from .conftest import LongLived

ENGINES = ["sqlite", "postgresql"]
PROJECT = "team/app"


class Hooked:
    """A receiver of webhooks in a thread, which notes what it is sent. `failing`: whether it responds with 500."""

    def __init__(self) -> None:
        self.failing = False
        self.bodies: list[dict[str, Any]] = []
        hooked = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hooked.bodies.append(json.loads(body))
                self.send_response(500 if hooked.failing else 204)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, free_port()), Handler)
        self.url = f"http://{HOST}:{self.server.server_port}/hook"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self, action: str) -> list[dict[str, Any]]:
        """The targets of the events of an action."""
        return [event["target"] for body in self.bodies for event in body["events"] if event["action"] == action]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Rig:
    """A server with the project `team/app`, tokens of its maintainer and of an administrator, and a receiver."""

    def __init__(self, server: Gateway, skopeo: Skopeo, images: Images, hooked: Hooked) -> None:
        self.server, self.hooked, self._skopeo, self._images = server, hooked, skopeo, images
        server.json("group", "create", "team")
        server.json("project", "create", PROJECT)
        self.tokens = {}
        for name, options in (("maintainer", ()), ("boss", ("--admin",))):
            server.json("user", "create", name, *options)
            made = server.json("token", "create", "--user", name, "--name", "api", "--scope", "api")
            self.tokens[name] = remember(made["token"])
        server.json("member", "add", "team", "maintainer", "maintainer")

    def push(self, tag: str) -> None:
        layout = self._images["tiny"]
        target = f"docker://{self.server.host}/{PROJECT}:{tag}"
        self._skopeo.copy(f"oci:{layout.path}:{layout.tag}", target, credential=f"x:{self.tokens['maintainer']}")

    def pull(self, tag: str) -> None:
        self._skopeo.inspect_raw(f"{self.server.host}/{PROJECT}:{tag}", credential=f"x:{self.tokens['maintainer']}")

    def client(self, name: str = "maintainer") -> gitlab.Gitlab:
        return gitlab.Gitlab(self.server.url, private_token=self.tokens[name])


@pytest.fixture(scope="module", params=ENGINES)
def rig(request: pytest.FixtureRequest, long_lived: LongLived, images: Images, workplace: Path) -> Iterator[Rig]:
    config: dict[str, object] = {"workers": 2, "log_format": "json", "webhooks": {"private_hosts": [HOST]}}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        address = asyncio.run(databases.server.create("of_rest_events", "template0"))
        config["database"] = {"url": str(address), "password_file": str(address.password_file)}
    hooked = Hooked()
    rig = Rig(long_lived(config), Skopeo(workplace / f"skopeo-{request.param}"), images, hooked)
    yield rig
    hooked.close()
    shown = found_in(rig.server.log_text().encode())
    assert not shown, f"secrets show in the log: {shown}"


def test_a_webhook_is_told_of_pushes_pulls_and_deletions(rig: Rig) -> None:
    project = rig.client().projects.get(PROJECT)
    secret = remember("a-token-of-a-webhook")
    hook = project.hooks.create({"url": rig.hooked.url, "token": secret, "registry_pull_events": True})
    assert (hook.alert_status, hook.token_present) == ("executable", True)
    rig.push("v1")
    wait_until(lambda: bool(rig.hooked.told("push")))
    [pushed] = rig.hooked.told("push")
    assert (pushed["repository"], pushed["tag"]) == (PROJECT, "v1")
    time.sleep(2.5)  # until both workers know that pulls are wanted
    rig.pull("v1")
    wait_until(lambda: bool(rig.hooked.told("pull")))
    assert rig.hooked.told("pull")[0]["digest"] == pushed["digest"]
    [repository] = project.repositories.list(get_all=True)
    repository.tags.delete("v1")
    wait_until(lambda: bool(rig.hooked.told("delete")))
    assert rig.hooked.told("delete")[0]["tag"] == "v1"
    hook.registry_pull_events = False
    hook.save()
    assert project.hooks.get(hook.id).registry_pull_events is False
    hook.test("registry_push_events")
    rig.hooked.failing = True
    with pytest.raises(gitlab.GitlabHookTestError, match="responded with 500"):
        hook.test("registry_push_events")
    rig.hooked.failing = False
    assert [one.id for one in project.hooks.list(get_all=True)] == [hook.id]
    hook.delete()
    assert project.hooks.list(get_all=True) == []


def test_a_webhook_of_a_group_and_one_of_the_server_are_made(rig: Rig) -> None:
    boss = rig.client("boss")
    hook = boss.groups.get("team").hooks.create({"url": "https://hooks.example.com/", "registry_delete_events": False})
    assert (hook.registry_push_events, hook.registry_delete_events) == (True, False)
    hook.delete()
    system = boss.hooks.create({"url": "https://hooks.example.com/", "registry_cache_fill_events": True})
    assert [one.id for one in boss.hooks.list(get_all=True)] == [system.id]
    system.delete()
    with pytest.raises(gitlab.GitlabListError):
        rig.client().hooks.list(get_all=True)


def test_a_push_is_told_though_the_server_is_killed_right_after_it(rig: Rig) -> None:
    project = rig.client().projects.get(PROJECT)
    rig.hooked.failing = True
    hook = project.hooks.create({"url": rig.hooked.url})
    rig.push("killed")
    rig.server.kill()
    rig.hooked.failing = False
    before = len(rig.hooked.told("push"))
    rig.server.start()
    wait_until(lambda: any(target["tag"] == "killed" for target in rig.hooked.told("push")[before:]), 90)
    rig.client().projects.get(PROJECT).hooks.delete(hook.id)


def test_the_audit_log_is_read(rig: Rig) -> None:
    boss = rig.client("boss")
    user = boss.users.create({"username": "audited", "name": "A", "email": "a@example.com", "reset_password": True})
    group = boss.groups.get("team")
    group.members.create({"user_id": user.id, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    rig.push("audited")

    def names(**query: Any) -> set[str]:
        return {event.event_name for event in boss.audit_events.list(get_all=True, **query)}

    project = rig.client().projects.get(PROJECT)

    def pushes() -> list[Any]:
        return project.audit_events.list(get_all=True, event="push")

    wait_until(lambda: {"user_create", "member_create"} <= names(user="boss"))
    wait_until(lambda: "audited" in [event.details["tag"] for event in pushes()])
    assert {"user_create", "personal token_create"} & names(event="create", user="boss") == {"user_create"}
    assert "group_create" in names(event="create"), "made by a command"
    made = group.audit_events.list(get_all=True, event="create", user="boss")
    [member] = [event for event in made if event.event_name == "member_create"]
    assert (member.entity_type, member.entity_id, member.details["target_id"]) == ("Group", group.id, "audited")
    assert group.audit_events.get(member.id).id == member.id
    pushed = pushes()
    assert pushed[0].entity_id == project.id and pushed[0].details["tag"] == "audited"
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert project.audit_events.list(get_all=True, created_after=tomorrow) == []
    with pytest.raises(gitlab.GitlabListError):
        rig.client().audit_events.list(get_all=True)


@pytest.mark.parametrize(("page", "heading"), [("audit", "## By the REST API"), ("webhooks", "# Webhooks")])
def test_the_lines_of_the_pages_run(rig: Rig, page: str, heading: str) -> None:
    [block, *_] = blocks(PAGES[page].partition(heading)[2], "sh")
    rig.push("page")
    boss, project = rig.client("boss"), rig.client().projects.get(PROJECT)
    wait_until(lambda: bool(project.audit_events.list(get_all=True)))
    event = project.audit_events.list(get_all=True)[0].id
    for line in block.replace("\\\n", "").splitlines():
        id = event
        if page == "webhooks" and "$ID" in line:
            id = max(hook.id for hook in project.hooks.list(get_all=True))
        environment = plain_environment(
            TOKEN=rig.tokens["boss"],
            URL=rig.server.url,
            SECRET=remember("a-secret-of-the-page"),
            DAY="2025-01-01",
            ID=str(id),
        )
        command = ["sh", "-ec", line.replace("curl ", "curl --fail --silent --show-error ")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert boss.hooks.list(get_all=True) == []


@pytest.mark.long
def test_a_client_that_was_refused_waits_as_long_as_it_is_told(long_lived: LongLived) -> None:
    server = long_lived({"workers": 1, "log_format": "json", "api": {"rate_limit": 3}})
    server.json("user", "create", "eager")
    made = server.json("token", "create", "--user", "eager", "--name", "api", "--scope", "api")
    client = gitlab.Gitlab(server.url, private_token=remember(made["token"]))
    began = time.monotonic()
    for _ in range(3):
        client.http_get("/version")
    with pytest.raises(gitlab.GitlabHttpError) as refused:
        client.http_get("/version", obey_rate_limit=False)
    assert refused.value.response_code == 429
    assert time.monotonic() - began < 30, "the first ones did not wait"
    client.http_get("/version")
    assert 20 < time.monotonic() - began < 90, "it waited for the next minute, and was served"
