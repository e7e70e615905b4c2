"""Tests that whoever follows GitLab's user guide arrives: its names, its commands, and the pipelines of the pages."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.clients import ClientFailed
from tests.parts.gateway import Gateway
from tests.parts.images import INDEX, MANIFEST, Images, digest_of
from tests.parts.pages import PAGES, blocks
from tests.parts.private_machine import REGISTRY
from tests.parts.processes import plain_environment

from .guide import Guide, open_guide, reg_inside

pytestmark = pytest.mark.long

PAGE = PAGES["gitlab-ci"]
PIPELINES = blocks(PAGE, "yaml")
BRANCHES = ["main", "feature/my-feature"]
NAMED, BY_VARIABLES, STAGES, OWN_DOCKER, PROXIED_DOCKER, CLEANING = range(6)


@pytest.fixture(scope="module")
def guide(workplace: Path, processes: None) -> Iterator[Guide]:
    with open_guide(workplace / "guide") as guide:
        yield guide


@pytest.fixture(scope="module")
def server(guide: Guide) -> Gateway:
    """Provides the server under its own name, for the check of its log."""
    return guide.server


def test_the_page_has_six_pipelines() -> None:
    assert len(PIPELINES) == 6


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(
    ("number", "repository", "tag"),
    [
        pytest.param(NAMED, "team/app/web", "latest", id="an image that is named in full"),
        pytest.param(BY_VARIABLES, "team/app", "SLUG", id="an image that is named by variables"),
        pytest.param(PROXIED_DOCKER, "team/app", "SLUG", id="images through the dependency proxy"),
    ],
)
def test_a_pipeline_pushes_what_it_builds(
    number: int, repository: str, tag: str, branch: str, guide: Guide, server: Gateway
) -> None:
    [ran] = guide.run(PIPELINES[number], branch)
    assert ran.status == 0, ran.output
    tag = tag.replace("SLUG", branch.replace("/", "-"))
    assert f"{tag}: digest: {guide.digest(repository, tag)} " in ran.output
    if number == PROXIED_DOCKER:  # nothing of the base image is uploaded
        mounted = "Mounted from team/dependency_proxy/containers/alpine"
        assert mounted in ran.output or "Layer already exists" in ran.output


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_pipeline_of_stages_tests_and_releases_the_image_that_it_built(
    branch: str, guide: Guide, server: Gateway
) -> None:
    ran = guide.run(PIPELINES[STAGES], branch)
    assert [one.status for one in ran] == [0] * len(ran), ran
    names = ["build", "unit-tests", "smoke-tests", "release", "deploy"]
    assert [one.name for one in ran] == names[: 5 if branch == "main" else 3]
    assert "tests/unit ran" in ran[1].output
    assert "tests/smoke ran" in ran[2].output
    slug = branch.replace("/", "-")
    assert slug in guide.tags("team/app")
    if branch == "main":
        assert "deploy.sh ran" in ran[-1].output
        assert guide.digest("team/app", "latest") == guide.digest("team/app", slug)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_pipeline_runs_in_images_of_another_project(branch: str, guide: Guide, server: Gateway) -> None:
    [ran] = guide.run(PIPELINES[OWN_DOCKER], branch)
    assert ran.status == 0, ran.output
    assert "tests/unit ran" in ran.output


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_pipeline_deletes_the_image_of_its_branch(branch: str, guide: Guide, server: Gateway) -> None:
    reg = reg_inside(guide.machine)
    released = re.findall("REG_SHA256: (.*)", PIPELINES[CLEANING])[0]
    pipeline = PIPELINES[CLEANING].replace(released, hashlib.sha256(reg.read_bytes()).hexdigest())
    pipeline = pipeline.replace('wget -O /usr/local/bin/reg "$REG"', "test -f /usr/local/bin/reg")
    assert pipeline.count("/usr/local/bin/reg") == 3
    before = guide.tags("team/app")
    ran = guide.run(pipeline, branch)
    assert [one.status for one in ran] == [0] * len(ran), ran
    if branch == "main":
        assert ran == []
        assert guide.tags("team/app") == before
    else:
        assert [one.name for one in ran] == ["build", "clean"]
        assert "feature-my-feature" not in guide.tags("team/app")


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
        ("CI_REGISTRY_USER", "CI_JOB_TOKEN"),
        ("CI_DEPLOY_USER", "CI_DEPLOY_PASSWORD"),
        ("alice", "token"),
    ],
)
def test_every_credential_of_the_guide_builds_pushes_and_pulls(
    user: str, password: str, guide: Guide, server: Gateway
) -> None:
    given = guide.variables("main") | {"alice": "alice", "token": guide.token}
    image = f"{given['CI_REGISTRY_IMAGE']}/credentials:{password.lower()}"
    guide.login(given[user], given[password], given["CI_REGISTRY"])
    guide.publish("credentials", image)
    guide.service.run("rmi", image)
    guide.service.run("pull", image)


def test_links_that_are_copied_run(guide: Guide, server: Gateway) -> None:
    guide.login()
    names = ["team/app:some-tag", "team/app/image:latest", "team/app/my/image:rc1", "team/app/a/b/c:1"]
    images = [f"{REGISTRY}/{name}" for name in names]
    guide.publish("copied", *images)
    guide.service.forget_images()
    for image in images:
        guide.service.run("pull", image)
    assert guide.run_image(images[-1]) == "runs"


def refusal(guide: Guide, *words: str) -> str:
    """What docker prints when it is refused."""
    with pytest.raises(ClientFailed) as failed:
        guide.service.run(*words)
    return failed.value.stderr


@pytest.mark.parametrize(
    ("name", "possible"), [("team/app/a/b/c/d", "team/app/a/b/c"), ("team", "team/PROJECT"), ("team/absent", "create")]
)
def test_a_name_that_cannot_be_is_refused_with_what_can_be(
    name: str, possible: str, guide: Guide, server: Gateway
) -> None:
    guide.login()
    guide.service.run("build", "--tag", f"{REGISTRY}/{name}:x", ".", directory=guide.source)
    assert possible in refusal(guide, "push", f"{REGISTRY}/{name}:x").replace(name, "", 1)


def test_a_missing_tag_is_answered_with_tags_that_exist(guide: Guide, server: Gateway) -> None:
    guide.login()
    guide.publish("tagged", *(f"{REGISTRY}/team/app/tagged:v{number}" for number in range(6)))
    message = refusal(guide, "pull", f"{REGISTRY}/team/app/tagged:v9")
    assert "v0, v1, v2, v3, v4" in message
    assert "v5" not in message


def commands(first: str) -> list[list[str]]:
    """The commands of the page's console block that begins with these words."""
    [block] = [text for text in blocks(PAGE, "console") if text.startswith(first)]
    return [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]


def test_a_manifest_list_is_made_with_the_commands_of_the_page(guide: Guide, server: Gateway) -> None:
    guide.login()
    for architecture in ("amd64", "arm64"):
        guide.publish(architecture, f"{REGISTRY}/team/app:1.0-{architecture}")
    for docker, *words in commands("$ docker manifest create"):
        assert docker == "docker"
        guide.service.run(*words)
    index = json.loads(guide.request("GET", "team/app/manifests/1.0").body)
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]


def test_a_manifest_list_of_images_from_other_repositories_mounts_them(guide: Guide, server: Gateway) -> None:
    guide.login()
    images = [f"{REGISTRY}/team/tools/{architecture}:1" for architecture in ("amd64", "arm64")]
    for image in images:
        guide.publish(image, image)
    together = f"{REGISTRY}/team/app/multi:1"
    guide.service.run("manifest", "create", together, *images)
    guide.service.run("manifest", "annotate", "--arch", "arm64", together, images[1])
    guide.service.run("manifest", "push", together)
    assert guide.run_image(together) == "runs"


def test_a_manifest_list_of_what_its_repository_lacks_is_refused_by_name(guide: Guide, server: Gateway) -> None:
    guide.login()
    guide.publish("elsewhere", f"{REGISTRY}/team/tools/elsewhere:1")
    there = guide.request("GET", "team/tools/elsewhere/manifests/1").body.encode()
    absent = [{"mediaType": MANIFEST, "digest": digest_of(content), "size": len(content)} for content in (there, b"{}")]
    document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": absent})
    options = ["--header", f"Content-Type: {INDEX}", "--data-binary", document]
    refused = guide.request("PUT", "team/app/manifests/absent", *options)
    [error] = json.loads(refused.body)["errors"]
    assert (refused.status, error["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert "blob unknown to registry" in error["message"]
    for entry in absent:
        assert entry["digest"] in refused.body
    assert "team/tools/elsewhere" in refused.body


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_reg_deletes_an_image_with_the_line_of_the_guide(
    kind: str, guide: Guide, server: Gateway, images: Images
) -> None:
    given = guide.variables("main")
    reg_inside(guide.machine)
    if kind == "docker":
        guide.login()
        guide.publish(kind, f"{REGISTRY}/team/app:{kind}")
    else:
        access = ["--dest-creds", f"alice:{guide.token}", "--preserve-digests"]
        target = f"docker://{REGISTRY}/team/app:{kind}"
        guide.machine.run("skopeo", "--insecure-policy", "copy", *access, images.tiny.source, target)
    line = "/usr/local/bin/reg rm -d --auth-url $CI_REGISTRY -u $CI_REGISTRY_USER -p $CI_REGISTRY_PASSWORD $IMAGE_TAG"
    environment = plain_environment(IMAGE_TAG=f"team/app:{kind}", **given)
    assert kind in guide.tags("team/app")
    guide.machine.run("sh", "-c", line, environment=environment)
    assert kind not in guide.tags("team/app")


def test_reg_deletes_every_tag_of_the_digest(guide: Guide, server: Gateway) -> None:
    guide.login()
    guide.publish("twice", *(f"{REGISTRY}/team/app/twice:{tag}" for tag in ("one", "two")))
    assert guide.tags("team/app/twice") == ["one", "two"]
    given = guide.variables("main")
    login = ["--username", given["CI_REGISTRY_USER"], "--password", given["CI_REGISTRY_PASSWORD"]]
    reg_inside(guide.machine)
    guide.machine.run("reg", "rm", "--auth-url", REGISTRY, *login, "team/app/twice:one")
    assert guide.tags("team/app/twice") == []
    for tag in ("one", "two"):
        assert server.cli("tag", "restore", f"team/app/twice:{tag}").returncode == 0
    assert guide.tags("team/app/twice") == ["one", "two"], "what a pipeline deletes by mistake is not lost at once"
