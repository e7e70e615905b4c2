"""Tests of the reader of pipelines, and of the machine in which they run."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .docker_service import DockerService
from .pipelines import Job, Runner, all_expanded, holds, read_pipeline
from .private_machine import REGISTRY, PrivateMachine
from .processes import Process, binary

PIPELINE = """\
stages: [build, check]
variables:
  DOCKER_TLS_CERTDIR: /certs
  IMAGE: $CI_REGISTRY_IMAGE:$CI_COMMIT_REF_SLUG
default:
  image: docker:27
  services: ["docker:27-dind"]
check:
  stage: check
  script:
    - docker run --rm "$IMAGE"
    - echo met > "$MEETING"
only-main:
  stage: check
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  script: [cat "$MEETING"]
build:
  stage: build
  before_script: [test -z "$(docker images --quiet)"]
  script:
    - docker build --tag "$IMAGE" .
    - docker push "$IMAGE"
"""
VARIABLES = {"CI_REGISTRY": REGISTRY, "CI_REGISTRY_IMAGE": f"{REGISTRY}/group/project", "CI_COMMIT_REF_SLUG": "main"}


def test_the_jobs_of_a_pipeline_come_in_the_order_of_its_stages() -> None:
    assert [job.name for job in read_pipeline(PIPELINE)] == ["build", "check", "only-main"]


def test_a_job_has_the_defaults_of_its_pipeline() -> None:
    variables = {"DOCKER_TLS_CERTDIR": "/certs", "IMAGE": "$CI_REGISTRY_IMAGE:$CI_COMMIT_REF_SLUG"}
    expected = Job(
        "check",
        "check",
        "docker:27",
        {"docker": "docker:27-dind"},
        variables,
        ['docker run --rm "$IMAGE"', 'echo met > "$MEETING"'],
        [],
    )
    assert read_pipeline(PIPELINE)[1] == expected


@pytest.mark.parametrize("branch", ["main", "feature/my-feature"])
def test_rules_choose_the_jobs_of_a_branch(branch: str) -> None:
    variables = {"CI_COMMIT_BRANCH": branch, "CI_DEFAULT_BRANCH": "main"}
    chosen = [job.name for job in read_pipeline(PIPELINE) if job.wanted(variables)]
    assert chosen == ["build", "check", "only-main"][: 3 if branch == "main" else 2]


@pytest.mark.parametrize("image", ["registry.example.com/group/docker:27", "docker/docker:27"])
def test_a_service_behind_a_prefix_has_the_name_docker_by_its_alias_alone(image: str) -> None:
    plain = f"build: {{image: x, services: ['{image}'], script: [], stage: build}}"
    [job] = read_pipeline(plain)
    assert "docker" not in job.services
    [job] = read_pipeline(plain.replace(f"'{image}'", f"{{name: '{image}', alias: docker}}"))
    assert job.services == {"docker": image}


@pytest.mark.parametrize(
    "text",
    [
        "build: {image: x, script: [], after_script: []}",
        "default: {cache: x}\nbuild: {image: x, script: []}",
        "build: {image: x, script: [], services: [{name: y, command: z}]}",
        "build: {image: x, script: [], rules: [{when: never}]}",
    ],
)
def test_a_pipeline_that_says_more_than_the_reader_knows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not know"):
        read_pipeline(text)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [('$A == "x"', True), ('$A != "x"', False), ("$A == $B", False), ("$A != $B", True)],
)
def test_conditions_compare_variables(condition: str, expected: bool) -> None:
    assert holds(condition, {"A": "x", "B": "y"}) == expected


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="does not know"):
        holds("$A =~ /x/", {"A": "x"})


def test_variables_are_replaced_within_variables() -> None:
    assert all_expanded({"A": "$B/c", "B": "${C}b", "C": "a", "D": "$UNKNOWN"}) == {
        "A": "ab/c",
        "B": "ab",
        "C": "a",
        "D": "$UNKNOWN",
    }


@pytest.fixture(scope="module")
def machine(workplace: Path, processes: None) -> Iterator[PrivateMachine]:
    machine = PrivateMachine(workplace / "machine")
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def distribution(machine: PrivateMachine, workplace: Path) -> Iterator[None]:
    """Starts Debian's docker-registry at port 443 of the machine, where nobody else could."""
    file = workplace / "registry.json"
    tls = {"certificate": str(machine.authority.cert_file), "key": str(machine.authority.key_file)}
    storage = {"filesystem": {"rootdirectory": str(workplace / "registry-data")}}
    file.write_text(
        json.dumps({"version": 0.1, "storage": storage, "http": {"addr": ":443", "secret": "x", "tls": tls}})
    )
    argv = machine.argv(binary("docker-registry", "docker-registry"), "serve", str(file))
    registry = Process(argv, log=workplace / "registry.log")
    ping = ["curl", "--fail", "--silent", "--show-error", f"https://{REGISTRY}/v2/"]
    registry.start(lambda: machine.run(*ping, check=False).returncode == 0)
    yield
    registry.stop()


def test_a_pipeline_passes_an_image_from_stage_to_stage_by_a_real_registry_alone(
    machine: PrivateMachine, distribution: None, scratch: Path
) -> None:
    source = scratch / "source"
    source.mkdir()
    shutil.copy(binary("busybox", "busybox-static"), source / "busybox")
    (source / "Dockerfile").write_text('FROM scratch\nCOPY busybox /bin/sh\nCMD ["/bin/sh", "-c", "echo runs"]\n')
    service = DockerService(machine)
    try:
        runner = Runner(machine, service, source, scratch / "jobs")
        os.mkfifo(scratch / "meeting")  # each of the two jobs of a stage waits there for the other
        ran = runner.run(PIPELINE, "main", VARIABLES | {"MEETING": str(scratch / "meeting")})
        assert [(one.name, one.status) for one in ran] == [("build", 0), ("check", 0), ("only-main", 0)], ran
        assert "runs" in ran[1].output
        assert ran[2].output == "met\n"
        [failed] = runner.run(PIPELINE, "main", VARIABLES | {"CI_REGISTRY_IMAGE": "docker/absent"})
        assert (failed.name, failed.status) == ("build", 1)
    finally:
        service.stop()


def test_the_names_of_a_private_machine_are_its_own(machine: PrivateMachine) -> None:
    assert REGISTRY in machine.run("cat", "/etc/hosts").stdout
    assert REGISTRY not in Path("/etc/hosts").read_text()
    assert not Path(f"/etc/docker/certs.d/{REGISTRY}").exists()


def test_closing_a_private_machine_ends_what_runs_in_it(scratch: Path, processes: None) -> None:
    machine = PrivateMachine(scratch / "machine")
    inside = Process(machine.argv("sleep", "infinity"), log=scratch / "log")
    inside.start(lambda: bool(inside.children()))
    machine.close()
    assert inside.wait() != 0
    inside.stop()
