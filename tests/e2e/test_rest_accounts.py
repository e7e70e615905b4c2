"""Users and tokens by the REST API of a running server: python-gitlab through its own objects, and curl as the page
writes it."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gitlab
import pytest

from tests.parts.canaries import CANARY, found_in, remember
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import Images
from tests.parts.pages import PAGES, blocks
from tests.parts.postgresql import Databases
from tests.parts.processes import plain_environment

from .conftest import LongLived

ENGINES = ["sqlite", "postgresql"]
IMAGE = "team/app/web:v1"


class Rig:
    """A server with the project `team/app` and an image in it, and an administrator's token."""

    def __init__(self, server: Gateway, skopeo: Skopeo, images: Images) -> None:
        self.server, self.skopeo, self._images = server, skopeo, images
        server.json("group", "create", "team")
        server.json("project", "create", "team/app")
        server.json("user", "create", "boss", "--admin")
        made = server.json("token", "create", "--user", "boss", "--name", "api", "--scope", "api")
        self.token = remember(made["token"])
        self.admin = self.client(self.token)
        layout = images["tiny"]
        skopeo.copy(f"oci:{layout.path}:{layout.tag}", f"docker://{self.image}", credential=f"x:{self.token}")

    @property
    def image(self) -> str:
        return f"{self.server.host}/{IMAGE}"

    def client(self, token: str) -> gitlab.Gitlab:
        return gitlab.Gitlab(self.server.url, private_token=remember(token))

    def pulls(self, credential: str) -> bool:
        """Whether a credential pulls the image."""
        try:
            self.skopeo.inspect_raw(self.image, credential=credential)
        except ClientFailed:
            return False
        return True


@pytest.fixture(scope="module", params=ENGINES)
def rig(request: pytest.FixtureRequest, long_lived: LongLived, images: Images, workplace: Path) -> Iterator[Rig]:
    config: dict[str, object] = {"workers": 2, "log_format": "json"}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        address = asyncio.run(databases.server.create("of_rest_accounts", "template0"))
        config["database"] = {"url": str(address), "password_file": str(address.password_file)}
    rig = Rig(long_lived(config), Skopeo(workplace / f"skopeo-{request.param}"), images)
    yield rig
    shown = found_in(rig.server.log_text().encode())
    assert not shown, f"secrets show in the log: {shown}"


def test_a_user_is_made_changed_blocked_and_deleted(rig: Rig) -> None:
    made = {"username": "ada", "email": "ada@example.com", "name": "Ada", "password": CANARY, "skip_confirmation": True}
    user = rig.admin.users.create(made)
    assert (user.username, user.email, user.state) == ("ada", "ada@example.com", "active")
    rig.server.json("member", "add", "team", "ada", "reporter")
    assert rig.pulls(f"ada:{CANARY}")
    with pytest.raises(gitlab.GitlabCreateError, match="Username has already been taken"):
        rig.admin.users.create({**made, "email": "other@example.com"})
    user.external = True
    user.email = "lovelace@example.com"
    user.save()
    [found] = rig.admin.users.list(username="ada", get_all=True)
    assert (found.id, found.external, found.email) == (user.id, True, "lovelace@example.com")
    assert user.block() is True
    assert rig.admin.users.get(user.id).state == "blocked"
    assert not rig.pulls(f"ada:{CANARY}")
    assert user.unblock() is True
    assert rig.pulls(f"ada:{CANARY}")
    user.delete()
    assert rig.admin.users.list(username="ada", get_all=True) == []
    with pytest.raises(gitlab.GitlabGetError, match="404 User Not Found"):
        rig.admin.users.get(user.id)


def test_personal_tokens_are_made_rotated_and_revoked(rig: Rig) -> None:
    user = rig.admin.users.create({"username": "bob", "email": "b@example.com", "name": "Bob", "reset_password": True})
    day = str(datetime.now(UTC).date() + timedelta(days=30))
    made = user.personal_access_tokens.create({"name": "ci", "scopes": ["api"], "expires_at": day})
    assert (made.expires_at, made.active, made.scopes) == (day, True, ["api"])
    client = rig.client(made.token)
    client.auth()
    assert client.user is not None and client.user.username == "bob"
    assert [token.id for token in client.personal_access_tokens.list(get_all=True)] == [made.id]
    assert client.personal_access_tokens.get("self").id == made.id
    with pytest.raises(gitlab.GitlabAuthenticationError):
        client.personal_access_tokens.get(rig.admin.personal_access_tokens.get("self").id)
    rotated = client.personal_access_tokens.rotate("self")
    assert rotated["expires_at"] == str(datetime.now(UTC).date() + timedelta(days=7))
    successor = rig.client(rotated["token"])
    successor.auth()
    with pytest.raises(gitlab.GitlabAuthenticationError):
        client.auth()
    with pytest.raises(gitlab.GitlabAuthenticationError):
        client.personal_access_tokens.rotate("self")
    with pytest.raises(gitlab.GitlabAuthenticationError):
        successor.auth()
    shown = rig.admin.personal_access_tokens.list(user_id=user.id, revoked=True, sort="created_desc", get_all=True)
    assert [token.id for token in shown] == [rotated["id"], made.id]
    last = user.personal_access_tokens.create({"name": "last", "scopes": ["read_api"]})
    rig.admin.personal_access_tokens.delete(last.id)
    assert rig.admin.personal_access_tokens.get(last.id).revoked is True


@pytest.mark.parametrize("place", ["project", "group"])
def test_a_deploy_token_pulls_until_it_is_deleted(rig: Rig, place: str) -> None:
    node = rig.admin.projects.get("team/app") if place == "project" else rig.admin.groups.get("team")
    made = node.deploytokens.create({"name": place, "scopes": ["read_registry"], "username": "", "expires_at": ""})
    credential = f"{made.username}:{remember(made.token)}"
    assert rig.pulls(credential)
    assert [token.id for token in node.deploytokens.list(get_all=True, active=True)] == [made.id]
    assert node.deploytokens.get(made.id).name == place
    assert made.id in {token.id for token in rig.admin.deploytokens.list(get_all=True)}
    made.delete()
    assert not rig.pulls(credential)
    assert node.deploytokens.list(get_all=True, active=True) == []


@pytest.mark.parametrize("place", ["project", "group"])
def test_an_access_token_acts_for_a_bot_until_it_is_revoked(rig: Rig, place: str) -> None:
    node = rig.admin.projects.get("team/app") if place == "project" else rig.admin.groups.get("team")
    made = node.access_tokens.create({"name": place, "scopes": ["api"], "access_level": 30})
    client = rig.client(made.token)
    client.auth()
    assert client.user is not None and client.user.username.startswith(f"{place}_{node.id}_bot_")
    assert client.user.username not in {user.username for user in rig.admin.users.list(get_all=True)}
    assert node.members.get(made.user_id).access_level == 30
    assert client.projects.get("team/app").path_with_namespace == "team/app"
    assert rig.pulls(f"whoever:{made.token}")
    assert [token.id for token in node.access_tokens.list(get_all=True, state="active")] == [made.id]
    assert node.access_tokens.get(made.id).access_level == 30
    own = client.projects.get("team/app") if place == "project" else client.groups.get("team")
    rotated = own.access_tokens.rotate("self")
    assert not rig.pulls(f"whoever:{made.token}")
    assert rig.pulls(f"whoever:{remember(rotated['token'])}")
    again = node.access_tokens.rotate(rotated["id"])
    node.access_tokens.delete(again["id"])
    assert not rig.pulls(f"whoever:{remember(again['token'])}")
    with pytest.raises(gitlab.GitlabGetError, match="404 Member Not Found"):
        node.members.get(made.user_id)


def test_the_scope_of_job_tokens_lets_jobs_of_other_projects_pull(rig: Rig) -> None:
    try:
        other = rig.admin.projects.create({"name": "other", "namespace_id": rig.admin.groups.get("team").id})
    except gitlab.GitlabCreateError:
        other = rig.admin.projects.get("team/other")
    project = rig.admin.projects.get("team/app")
    started = rig.admin.http_post(f"/projects/{other.id}/jobs", post_data={"ref": "main", "expires_at": "10m"})
    assert isinstance(started, dict)
    secret = remember(started["variables"]["CI_JOB_TOKEN"])
    job = gitlab.Gitlab(rig.server.url, job_token=secret)
    shown = job.http_get("/job")
    assert isinstance(shown, dict) and shown["id"] == started["id"]
    scope = project.job_token_scope.get()
    assert scope.inbound_enabled is True
    assert not rig.pulls(f"gitlab-ci-token:{secret}")
    scope.allowlist.create({"target_project_id": other.id})
    assert [entry.id for entry in scope.allowlist.list(get_all=True)] == [other.id]
    assert rig.pulls(f"gitlab-ci-token:{secret}")
    scope.allowlist.delete(other.id)
    assert not rig.pulls(f"gitlab-ci-token:{secret}")
    group = rig.admin.groups.get("team")
    scope.groups_allowlist.create({"target_group_id": group.id})
    assert [entry.id for entry in scope.groups_allowlist.list(get_all=True)] == [group.id]
    assert rig.pulls(f"gitlab-ci-token:{secret}")
    scope.groups_allowlist.delete(group.id)
    project.manager.gitlab.http_patch(f"/projects/{project.id}/job_token_scope", post_data={"enabled": False})
    assert project.job_token_scope.get().inbound_enabled is False
    assert rig.pulls(f"gitlab-ci-token:{secret}")
    project.manager.gitlab.http_patch(f"/projects/{project.id}/job_token_scope", post_data={"enabled": True})
    found = other.jobs.get(started["id"])
    found.cancel()
    assert other.jobs.get(started["id"]).status == "success"
    assert not rig.pulls(f"gitlab-ci-token:{secret}")


@pytest.mark.parametrize("heading", ["Users and tokens", "Access tokens of projects and groups", "Jobs"])
def test_the_lines_of_the_page_run(rig: Rig, heading: str) -> None:
    [block] = blocks(PAGES["api"].partition(f"## {heading}\n")[2].partition("\n## ")[0], "sh")
    lines = block.replace("\\\n", "").splitlines()
    day = str(datetime.now(UTC).date() + timedelta(days=30))
    other = rig.server.json("project", "create", "team/of-the-page") if heading == "Jobs" else {"id": ""}
    environment = plain_environment(TOKEN=rig.token, URL=rig.server.url, DAY=day, ID=str(other["id"]))
    for line in lines:
        command = ["sh", "-ec", line.replace("curl ", "curl --fail --silent --show-error ")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stderr)
        document = json.loads(done.stdout)
        assert document, line
        if isinstance(document, dict):
            remember(document.get("token") or document.get("variables", {}).get("CI_JOB_TOKEN") or "no secret at all")
            makes = "username=robot" in line or '"build"' in line
            environment["ID"] = str(document["id"]) if makes else environment["ID"]
