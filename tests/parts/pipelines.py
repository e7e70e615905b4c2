"""Pipelines of GitLab CI, as far as the pages of this project use them: read from YAML, and run job by job.

The reader refuses every key that it does not know, so that nothing that a pipeline says is passed over. What a key
means is stated at https://docs.gitlab.com/ci/yaml/.
"""

import base64
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .docker_service import DockerService
from .private_machine import SERVICE, PrivateMachine
from .processes import plain_environment

DEFAULT_BRANCH = "main"
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
CONDITION = re.compile(r"(\$\w+) (==|!=) (\$\w+|\"[^\"]*\")")

DEFAULT_KEYS = {"image", "services", "before_script"}
JOB_KEYS = DEFAULT_KEYS | {"stage", "variables", "script", "rules"}


@dataclass(frozen=True)
class Job:
    """A job of a pipeline. `services` maps host names to images; `conditions` are those of its rules (none: always)."""

    name: str
    stage: str
    image: str
    services: Mapping[str, str]
    variables: Mapping[str, str]
    script: Sequence[str]
    conditions: Sequence[str]

    def wanted(self, variables: Mapping[str, str]) -> bool:
        return not self.conditions or any(holds(condition, variables) for condition in self.conditions)


@dataclass(frozen=True)
class Ran:
    """Outcome of a job: the exit status of its script, and all that it printed."""

    name: str
    status: int
    output: str


def read_pipeline(text: str) -> list[Job]:
    """Reads the jobs of a pipeline in the order of its stages; raises ValueError for what it does not know."""
    document = dict(yaml.safe_load(text))
    stages = list(document.pop("stages", ["build", "test", "deploy"]))
    variables = document.pop("variables", {})
    default = document.pop("default", {})
    _known(default, DEFAULT_KEYS, "default")
    jobs = [_job(name, default | content, variables) for name, content in document.items()]
    return sorted(jobs, key=lambda job: stages.index(job.stage))


def _job(name: str, content: Mapping[str, Any], variables: Mapping[str, str]) -> Job:
    _known(content, JOB_KEYS, name)
    services: dict[str, str] = {}
    for service in content.get("services", []):
        described = {"name": service} if isinstance(service, str) else service
        _known(described, {"name", "alias"}, name)
        services[described.get("alias") or _host_of(described["name"])] = described["name"]
    conditions = []
    for rule in content.get("rules", []):
        _known(rule, {"if"}, name)
        conditions.append(rule["if"])
    script = [*content.get("before_script", []), *content["script"]]
    everywhere = dict(variables) | content.get("variables", {})
    return Job(name, content.get("stage", "test"), content["image"], services, everywhere, script, conditions)


def _host_of(image: str) -> str:
    """Host name that GitLab makes of a service's image: slashes become dashes, and the tag is left out."""
    path, _, last = image.rpartition("/")
    return f"{path}/{last.partition(':')[0]}".lstrip("/").replace("/", "-")


def _known(content: Mapping[str, Any], keys: set[str], where: str) -> None:
    if unknown := set(content) - keys:
        raise ValueError(f"{where}: this reader of pipelines does not know {', '.join(sorted(unknown))}")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Replaces $NAME and ${NAME}; unknown ones stay, as GitLab leaves them to the shell."""
    return VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), text)


def all_expanded(variables: Mapping[str, str]) -> dict[str, str]:
    """Replaces the variables within the values of others, however deep."""
    values = dict(variables)
    for _ in values:
        values = {name: expanded(value, values) for name, value in values.items()}
    return values


def holds(condition: str, variables: Mapping[str, str]) -> bool:
    """Decides a condition of a rule: a comparison of a variable with another one or with a text."""
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"this reader of pipelines does not know the condition {condition}")
    left, right = (expanded(side.strip('"'), variables) for side in (match[1], match[3]))
    return (left == right) == (match[2] == "==")


class Runner:
    """Runs pipelines as a GitLab runner does that has the service `docker`: each job with a folder and a home of its
    own, the jobs of a stage at once, and no stage after one that failed.

    Images of jobs and services that come from the registry are pulled before the job; the script itself runs in a shell
    of the machine. Every stage begins with a service that holds no images.
    """

    def __init__(self, machine: PrivateMachine, service: DockerService, source: Path, directory: Path) -> None:
        self._machine, self._service, self._source, self._directory = machine, service, source, directory

    def run(self, pipeline: str, branch: str, given: Mapping[str, str]) -> list[Ran]:
        """Runs the jobs for a commit on a branch, with the variables that the server gave."""
        predefined = {"CI_COMMIT_BRANCH": branch, "CI_DEFAULT_BRANCH": DEFAULT_BRANCH, **given}
        jobs = [job for job in read_pipeline(pipeline) if job.wanted(predefined)]
        ran: list[Ran] = []
        for stage in dict.fromkeys(job.stage for job in jobs):
            self._service.forget_images()
            together = [job for job in jobs if job.stage == stage]
            with ThreadPoolExecutor(len(together)) as pool:
                ran += pool.map(lambda job: self._run(job, predefined), together)
            if any(one.status for one in ran):
                break
        return ran

    def _run(self, job: Job, predefined: Mapping[str, str]) -> Ran:
        variables = all_expanded({**predefined, **job.variables})
        place = self._directory / job.name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._source, place / "source")
        self._pull_images(job, variables, place / "runner")
        environment = plain_environment(HOME=str(place / "home"), **variables)
        if SERVICE in job.services:
            assert variables["DOCKER_TLS_CERTDIR"] == "/certs", "the service has the certificates there alone"
            environment |= self._service.environment
        script = "\n".join(["set -e", "exec 2>&1", *job.script])
        argv = ("sh", "-c", script)
        completed = self._machine.run(*argv, directory=place / "source", environment=environment, check=False)
        return Ran(job.name, completed.returncode, completed.stdout)

    def _pull_images(self, job: Job, variables: Mapping[str, str], login: Path) -> None:
        """Pulls what comes from the registry, with the login that DOCKER_AUTH_CONFIG would give to the runner."""
        images = [expanded(image, variables) for image in (job.image, *job.services.values())]
        own = [image for image in images if image.startswith(f"{variables['CI_REGISTRY']}/")]
        if own:
            login.mkdir()
            pair = f"{variables['CI_REGISTRY_USER']}:{variables['CI_REGISTRY_PASSWORD']}".encode()
            auths = {variables["CI_REGISTRY"]: {"auth": base64.b64encode(pair).decode()}}
            (login / "config.json").write_text(json.dumps({"auths": auths}))
        for image in own:
            self._service.run("--config", str(login), "pull", "--quiet", image)
