"""The REST API at a running server: python-gitlab through its own objects, and curl as the page writes it."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import gitlab
import pytest
from gitlab.v4.objects import Project

from tests.parts.canaries import remember
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import Images
from tests.parts.pages import PAGES, blocks
from tests.parts.postgresql import Databases
from tests.parts.processes import plain_environment, wait_until

from .conftest import LongLived

PROJECT, IMAGE = "team/app", "team/app/web"
ENGINES = ["sqlite", "postgresql"]


class Rig:
    """A server with the group `team`, its project `team/app` and an image in it, which skopeo has pushed with some
    tags, and tokens of its members by their roles."""

    def __init__(self, server: Gateway, skopeo: Skopeo, images: Images) -> None:
        self.server, self._skopeo, self._images = server, skopeo, images
        server.json("group", "create", "team")
        server.json("project", "create", PROJECT)
        self.tokens = {}
        for role in ("reporter", "developer", "maintainer"):
            server.json("user", "create", role)
            server.json("member", "add", "team", role, role)
            made = server.json("token", "create", "--user", role, "--name", "api", "--scope", "api")
            self.tokens[role] = remember(made["token"])
        self.push("v1", "v2", "v10.0.0", "latest")

    def root_token(self) -> str:
        """A new token of an administrator."""
        made = self.server.json("token", "create", "--user", "root", "--name", "api", "--scope", "api")
        return str(remember(made["token"]))

    def push(self, *tags: str, image: str = IMAGE, as_token: str = "") -> None:
        """Push the small image by some tags, as a maintainer unless another token is given."""
        layout = self._images["tiny"]
        for tag in tags:
            target = f"docker://{self.server.host}/{image}:{tag}"
            self._skopeo.copy(
                f"oci:{layout.path}:{layout.tag}", target, credential=f"x:{as_token or self.tokens['maintainer']}"
            )

    def client(self, role: str = "maintainer") -> gitlab.Gitlab:
        return gitlab.Gitlab(self.server.url, private_token=self.tokens[role])

    def project(self, role: str = "maintainer") -> Project:
        return self.client(role).projects.get(PROJECT)


@pytest.fixture(scope="module", params=ENGINES)
def rig(request: pytest.FixtureRequest, long_lived: LongLived, images: Images, workplace: Path) -> Iterator[Rig]:
    config: dict[str, object] = {"workers": 2, "log_format": "json"}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        address = asyncio.run(databases.server.create("of_the_rest_api", "template0"))
        config["database"] = {"url": str(address), "password_file": str(address.password_file)}
    yield Rig(long_lived(config), Skopeo(workplace / f"skopeo-{request.param}"), images)


def test_a_client_finds_itself_and_the_version(rig: Rig) -> None:
    client = rig.client("developer")
    client.auth()
    assert client.user is not None and client.user.username == "developer"
    assert client.version()[1] == "registry-gateway"
    with pytest.raises(gitlab.GitlabAuthenticationError):
        gitlab.Gitlab(rig.server.url, private_token="rgpat-wrong").auth()


def test_repositories_and_tags_are_read_through_objects(rig: Rig) -> None:
    project = rig.project("reporter")
    [repository] = project.repositories.list(tags=True, tags_count=True, get_all=True)
    assert (repository.path, repository.name, repository.tags_count) == (IMAGE, "web", 4)
    assert repository.location == f"{rig.server.host}/{IMAGE}"
    names = [tag.name for tag in repository.tags.list(get_all=True, per_page=3)]
    assert names == ["latest", "v1", "v10.0.0", "v2"]
    assert [tag.name for tag in repository.tags.list(iterator=True, pagination="keyset", per_page=1)] == names
    detail = repository.tags.get("v10.0.0")
    assert detail.digest.startswith("sha256:") and detail.total_size > 0
    assert len(detail.revision) == 64 and detail.short_revision == detail.revision[:9]
    [found] = rig.client("reporter").groups.get("team").registry_repositories.list(get_all=True)
    assert found.path == IMAGE and [tag.name for tag in found.tags.list(get_all=True)] == names
    single = rig.client("reporter").registry_repositories.get(found.id, tags=True, tags_count=True, size=True)
    assert single.tags_count == 4 and single.size > 0 and len(single.attributes["tags"]) == 4


def test_a_switch_is_saved_and_closes_the_registry(rig: Rig) -> None:
    project = rig.project()
    project.container_registry_access_level = "disabled"
    project.save()
    assert project.container_registry_enabled is False
    with pytest.raises(gitlab.GitlabListError, match="disabled"):
        project.repositories.list(get_all=True)
    project.container_registry_access_level = "enabled"
    project.save()
    assert len(project.repositories.list(get_all=True)) == 1
    with pytest.raises(gitlab.GitlabUpdateError, match="403 Forbidden"):
        developer = rig.project("developer")
        developer.visibility = "public"
        developer.save()


def test_tags_and_repositories_are_deleted_through_objects(rig: Rig) -> None:
    rig.push("v1", "v2", image=f"{PROJECT}/doomed")
    [repository] = [
        found for found in rig.project("developer").repositories.list(get_all=True) if found.name == "doomed"
    ]
    repository.tags.delete("v1")
    repository.tags.get("v2").delete()
    with pytest.raises(gitlab.GitlabGetError, match="404 Tag Not Found"):
        repository.tags.get("v1")
    with pytest.raises(gitlab.GitlabDeleteError, match="404 Tag Not Found"):
        repository.tags.delete("v1")
    with pytest.raises(gitlab.GitlabDeleteError, match="403 Forbidden"):
        repository.delete()
    project = rig.project()
    project.repositories.delete(repository.id)
    assert [found.path for found in project.repositories.list(get_all=True)] == [IMAGE]
    status = rig.client().registry_repositories.get(repository.id)
    assert status.status == "delete_scheduled"
    rig.client().http_post(f"/projects/{project.id}/registry/repositories/{repository.id}/restore")
    rig.client().http_put(f"/projects/{project.id}/registry/repositories/{repository.id}", post_data={"name": "kept"})
    assert [found.name for found in project.repositories.list(get_all=True)] == ["kept", "web"]
    project.repositories.delete(repository.id)

    def events() -> list[dict[str, object]]:
        """What the audit log has, to which each worker writes at intervals."""
        listed = rig.server.json("audit", "list", "--event", "delete", "--path", f"{PROJECT}/doomed")
        assert isinstance(listed, list)
        return listed

    wait_until(lambda: len(events()) == 3)
    assert [(event["subject"], event["tag"], event["surface"], event["user"]) for event in events()] == [
        ("tag", "v1", "rest", "developer"),
        ("tag", "v2", "rest", "developer"),
        ("repository", None, "rest", "maintainer"),
    ]
    logged = [json.loads(line) for line in rig.server.log_text().splitlines() if '"deleted"' in line]
    deleted = [line for line in logged if line["event"] == "deleted"]
    assert [(line["tag"], line["status"]) for line in deleted] == [("v1", 200), ("v2", 200), (None, 202), (None, 202)]


def test_tags_are_deleted_in_bulk_through_objects(rig: Rig) -> None:
    rig.push("v1", "v2", "dev-1", "dev-2", "latest", image=f"{PROJECT}/bulk")
    [repository] = rig.project().repositories.list(search="bulk", get_all=True)
    repository.tags.delete_in_bulk(name_regex_delete=".*", name_regex_keep="v.+", keep_n=1)
    with pytest.raises(gitlab.GitlabDeleteError, match="at most once an hour"):
        repository.tags.delete_in_bulk(name_regex_delete=".*")

    def left() -> list[str]:
        return [tag.name for tag in repository.tags.list(get_all=True)]

    wait_until(lambda: len(left()) == 4)
    assert left() == ["dev-2", "latest", "v1", "v2"]
    rig.project().repositories.delete(repository.id)


def test_a_cleanup_policy_is_made_through_objects(rig: Rig) -> None:
    project = rig.project()
    attributes = {"enabled": True, "cadence": "1month", "keep_n": 5, "older_than": "30d", "name_regex_keep": "v.+"}
    project.container_expiration_policy_attributes = attributes
    project.save()
    policy = rig.project().container_expiration_policy
    assert {name: policy[name] for name in attributes} == attributes and policy["next_run_at"]
    project.container_expiration_policy_attributes = {"cadence": "2d"}
    with pytest.raises(gitlab.GitlabUpdateError, match="is not included in the list"):
        project.save()
    shown = rig.server.json("cleanup", "status", PROJECT)
    assert shown == []  # no run has come to a repository yet
    project.container_expiration_policy_attributes = {"enabled": False}
    project.save()


def test_protection_rules_are_made_through_objects_and_refuse_pushes(rig: Rig) -> None:
    project = rig.project()
    levels = {"minimum_access_level_for_push": "owner", "minimum_access_level_for_delete": "admin"}
    rules = project.registry_protection_repository_rules
    rule = rules.create({"repository_path_pattern": f"{PROJECT}/kept*", **levels})
    assert [one.repository_path_pattern for one in rules.list(get_all=True)] == [f"{PROJECT}/kept*"]
    with pytest.raises(gitlab.GitlabCreateError, match="already"):
        rules.create({"repository_path_pattern": f"{PROJECT}/kept*", **levels})
    with pytest.raises(ClientFailed, match="protected by repository rule"):
        rig.push("v1", image=f"{PROJECT}/kept-one")
    rule.minimum_access_level_for_push = "maintainer"
    rule.save()
    rig.push("v1", image=f"{PROJECT}/kept-one")
    [repository] = project.repositories.list(search="kept-one", get_all=True)
    with pytest.raises(gitlab.GitlabDeleteError, match="protected by repository rule"):
        repository.delete()
    move = f"/projects/{project.id}/registry/repositories/{repository.id}"
    with pytest.raises(gitlab.GitlabHttpError, match="protected by repository rule"):
        rig.client().http_put(move, post_data={"name": "free"})
    rules.delete(rule.id)
    project.repositories.delete(repository.id)


def test_a_dry_run_of_a_deletion_in_bulk_deletes_nothing(rig: Rig) -> None:
    rig.push("a", "b", image=f"{PROJECT}/dry")
    [repository] = rig.project().repositories.list(search="dry", get_all=True)
    path = f"/projects/{rig.project().id}/registry/repositories/{repository.id}/tags"
    for _ in range(2):
        answer = rig.client().http_request("delete", path, query_data={"name_regex_delete": ".*", "dry_run": True})
        shown = answer.json()
        assert (shown["deleted"], shown["deletes_everything"]) == (2, True)
        assert {tag["name"]: tag["verdict"] for tag in shown["tags"]} == {"a": "deleted", "b": "deleted"}
    assert len(repository.tags.list(get_all=True)) == 2
    rig.project().repositories.delete(repository.id)


def test_the_lines_about_the_registry_s_own_api_run(rig: Rig) -> None:
    [block] = blocks(PAGES["api"].partition("## The registry's own API")[2].partition("\n## ")[0], "sh")
    environment = plain_environment(TOKEN=rig.tokens["maintainer"], URL=rig.server.url)
    for line in block.replace("\\\n", "").splitlines():
        command = [
            "sh",
            "-ec",
            line.replace("curl ", "curl --fail --silent --show-error ").replace("team/app/web", IMAGE),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stderr)
        json.loads(done.stdout)


def test_a_job_reads_and_deletes_with_its_token(rig: Rig) -> None:
    rig.push("job-1", image=f"{PROJECT}/built")
    started = rig.server.json("job", "start", PROJECT, "--user", "developer")
    token = remember(started["variables"]["CI_JOB_TOKEN"])
    project = gitlab.Gitlab(rig.server.url, job_token=token).projects.get(PROJECT)
    [repository] = project.repositories.list(search="built", get_all=True)
    repository.tags.delete("job-1")
    assert repository.tags.list(get_all=True) == []
    rig.project().repositories.delete(repository.id)


def test_the_lines_of_the_page_run(rig: Rig) -> None:
    id = rig.project().repositories.list(get_all=True)[0].id
    [block] = blocks(PAGES["api"].partition("## Tokens")[0], "sh")
    lines = block.replace("\\\n", "").splitlines()
    environment = plain_environment(TOKEN=rig.tokens["maintainer"], URL=rig.server.url, ID=str(id))
    for line in lines:
        command = ["sh", "-ec", line.replace("curl ", "curl --fail --silent --show-error ")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stderr)
        assert json.loads(done.stdout), line
    project = rig.project()
    assert project.container_registry_access_level == "private"
    [found] = project.repositories.list(get_all=True)
    assert found.name == "front" and "v1" in [tag.name for tag in found.tags.list(get_all=True)]
    project.container_registry_access_level = "enabled"
    project.save()


def test_groups_projects_and_members_are_made_and_moved_through_objects(rig: Rig) -> None:
    root = gitlab.Gitlab(rig.server.url, private_token=rig.root_token())
    top = root.groups.create({"name": "Ventures", "path": "ventures", "visibility": "private"})
    below = root.groups.create({"name": "lab", "path": "lab", "parent_id": top.id})
    assert (below.full_path, below.parent_id) == ("ventures/lab", top.id)
    assert [one.full_path for one in top.subgroups.list(get_all=True)] == ["ventures/lab"]
    assert [one.full_path for one in root.groups.list(search="ventures", get_all=True)] == ["ventures", "ventures/lab"]
    developer = root.groups.get("team").members.list(query="developer", get_all=True)[0]
    member = below.members.create({"user_id": developer.id, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    member.access_level = gitlab.const.AccessLevel.OWNER
    member.save()
    assert below.members.get(developer.id).access_level == 50
    client = rig.client("developer")
    project = client.projects.create({"name": "Box", "namespace_id": below.id})
    assert project.path_with_namespace == "ventures/lab/box"
    assert client.projects.create({"name": "own"}).path_with_namespace == "developer/own"
    assert [one.id for one in below.projects.list(get_all=True)] == [project.id]
    assert project.members_all.get(developer.id).username == "developer"
    rig.push("v1", image="ventures/lab/box", as_token=rig.tokens["developer"])
    project.transfer("developer")
    moved = client.projects.get(project.id)
    assert moved.path_with_namespace == "developer/box"
    assert [one.path for one in moved.repositories.list(get_all=True)] == ["developer/box"]
    moved.path = "crate"
    moved.save()
    assert client.projects.get("developer/crate").id == project.id
    moved.delete()
    member.delete()
    below.delete()
    top.delete()
    with pytest.raises(gitlab.GitlabGetError, match="404 Group Not Found"):
        root.groups.get("ventures")
    assert {one.kind for one in client.namespaces.list(get_all=True)} == {"user", "group"}
