"""Our server at the names of GitLab's user guide, in a private machine with an upstream and the service of jobs."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.gateway.cli.terminal import Terminal
from tests.parts.docker_service import DockerService
from tests.parts.gateway import Gateway
from tests.parts.go_clients import REG, build_go_client
from tests.parts.pipelines import Ran, Runner
from tests.parts.private_machine import ADDRESS, PAGES, REGISTRY, PrivateMachine
from tests.parts.processes import LONGEST_START, Process, binary

UPSTREAM = "127.0.0.1:5000"
PUSHING = ("--scope", "read_registry", "--scope", "write_registry")
DOCKERFILE = """\
ARG BASE=scratch
FROM $BASE
COPY . /
CMD ["/bin/sh", "-c", "echo runs"]
"""


@dataclass(frozen=True)
class Answer:
    """Status and body of a response."""

    status: int
    body: str


class GatewayInside(Gateway):
    """Our server within a private machine, at port 443 with TLS."""

    def __init__(self, machine: PrivateMachine, directory: Path, config: Mapping[str, Any]) -> None:
        keys = [f"--tls-cert={machine.authority.cert_file}", f"--tls-key={machine.authority.key_file}"]
        super().__init__(directory, config, arguments=[f"--host={ADDRESS}", *keys], port=443)
        self._machine = machine
        self.process.argv = machine.argv(*self.process.argv)

    def start(self, within: float = LONGEST_START) -> None:
        probe = ["curl", "--fail", "--silent", f"https://{PAGES}/-/ready"]
        self.process.start(lambda: self._machine.run(*probe, check=False).returncode == 0, within)


class Guide:
    """Everything that the guide's examples need: projects, a developer, images of an upstream, and a service for jobs.

    `alice` is developer of the group `team`, whose projects are `app` and `tools`; `token` is her access token, and
    `password` her password.
    `source` is the folder of an application. Its image stands behind the names of the upstream and of `tools`, too.
    """

    def __init__(self, machine: PrivateMachine, directory: Path) -> None:
        self.machine, self._directory = machine, directory
        upstream = {"url": f"http://{UPSTREAM}", "private_addresses": True}
        names = {"external_url": f"https://{PAGES}", "registry_url": f"https://{REGISTRY}"}
        config = names | {"upstreams": {"docker.io": upstream}}
        (directory / "gateway").mkdir()
        self._terminal = Terminal(directory / "gateway")  # writes a config file that the server's replaces
        self.server = GatewayInside(machine, directory / "gateway", config)
        self.source = directory / "source"
        self._make_source()
        self.service = DockerService(machine)
        self._upstream = self._start_upstream()
        self.server.start()
        self.password = f"password-{uuid4().hex}"
        self.token = self._make_tree()
        self._jobs: dict[str, dict[str, str]] = {}
        self.login()
        self.publish("base", f"{UPSTREAM}/library/alpine:latest")
        repositories = [f"{UPSTREAM}/library/docker", f"{REGISTRY}/team/tools/docker"]
        self.publish("docker", *(f"{name}:{tag}" for name in repositories for tag in ("27", "27-dind")))

    def variables(self, branch: str) -> dict[str, str]:
        """The variables of a job of `team/app` that alice started on a branch."""
        if branch not in self._jobs:
            started = self._terminal.json("job", "start", "team/app", "--user", "alice", "--ref", branch)
            self._jobs[branch] = started["variables"]
        return self._jobs[branch]

    def every_credential(self) -> dict[str, tuple[str, str]]:
        """User names and secrets of those that the guide's reader has, which all may push to `team/app`."""
        given, deploy = self.variables("main"), ["--project", "team/app", "--name", "laptop", *PUSHING]
        token = self._terminal.json("deploy-token", "create", *deploy)
        return {
            "password": ("alice", self.password),
            "personal token": ("alice", self.token),
            "deploy token": (token["username"], token["token"]),
            "job token": (given["CI_REGISTRY_USER"], given["CI_JOB_TOKEN"]),
        }

    def run(self, pipeline: str, branch: str) -> list[Ran]:
        """Runs a pipeline for a commit that is of this branch alone."""
        (self.source / "content").write_text(f"{branch}\n")
        return Runner(self.machine, self.service, self.source, self._directory / "jobs").run(
            pipeline, branch, self.variables(branch)
        )

    def login(self, user: str = "alice", password: str = "", host: str = REGISTRY) -> None:
        """Logs in as the users of the guide do on their own machine; alice with her token by default."""
        self.service.run("login", "--username", user, "--password-stdin", host, standard_input=password or self.token)

    def digest(self, repository: str, tag: str) -> str:
        """Digest that a tag points to; "" for a tag that does not exist."""
        head = self.request("HEAD", f"{repository}/manifests/{tag}", "--head").body
        found = re.search(r"(?im)^docker-content-digest: (\S+)", head)
        return found[1] if found else ""

    def index(self, repository: str, tag: str) -> list[dict[str, Any]]:
        """The entries of a manifest list."""
        entries: list[dict[str, Any]] = json.loads(self.request("GET", f"{repository}/manifests/{tag}").body)[
            "manifests"
        ]
        return entries

    def publish(self, content: str, *images: str) -> None:
        """Builds an image of the application with some content, and pushes it under each NAME:TAG."""
        (self.source / "content").write_text(f"{content}\n")
        names = [word for image in images for word in ("--tag", image)]
        self.service.run("build", *names, ".", directory=self.source)
        for repository in dict.fromkeys(image.rpartition(":")[0] for image in images):
            self.service.run("push", "--all-tags", repository)

    def run_image(self, image: str) -> str:
        """Runs an image with the login of the service, and returns what it printed."""
        return self.service.run("run", "--rm", image).stdout.strip()

    def request(self, method: str, path: str, *options: str) -> Answer:
        """Sends a request to the registry as alice."""
        format = "\n%{http_code}"
        words = ["curl", "--silent", "--show-error", "--user", f"alice:{self.token}", "--request", method]
        sent = self.machine.run(*words, "--write-out", format, *options, f"https://{REGISTRY}/v2/{path}")
        body, _, status = sent.stdout.rpartition("\n")
        return Answer(int(status), body)

    def tags(self, repository: str) -> list[str]:
        """Tags of a repository; none where there is no such repository."""
        answer = self.request("GET", f"{repository}/tags/list")
        return sorted(json.loads(answer.body)["tags"] or []) if answer.status == 200 else []

    def close(self) -> None:
        self.service.stop()
        self.server.kill()
        self._upstream.stop()

    def _make_source(self) -> None:
        for folder in ("bin", "tests"):
            (self.source / folder).mkdir(parents=True)
        shutil.copy(binary("busybox", "busybox-static"), self.source / "bin" / "sh")
        (self.source / "Dockerfile").write_text(DOCKERFILE)
        for name in ("tests/unit", "tests/smoke", "deploy.sh"):
            (self.source / name).write_text(f"#!/bin/sh\necho {name} ran\n")
            (self.source / name).chmod(0o755)

    def _start_upstream(self) -> Process:
        """Starts the real registry that stands for Docker Hub."""
        file = self._directory / "upstream.json"
        storage = {"filesystem": {"rootdirectory": str(self.machine.memory / "upstream")}}
        http = {"addr": UPSTREAM, "secret": "not a secret"}
        file.write_text(json.dumps({"version": 0.1, "storage": storage, "http": http}))
        argv = self.machine.argv(binary("docker-registry", "docker-registry"), "serve", str(file))
        upstream = Process(argv, log=self._directory / "upstream.log")
        probe = ["curl", "--fail", "--silent", f"http://{UPSTREAM}/v2/"]
        upstream.start(lambda: self.machine.run(*probe, check=False).returncode == 0)
        return upstream

    def _make_tree(self) -> str:
        """Makes the group, its projects and alice; returns her token."""
        json_of = self._terminal.json
        json_of("group", "create", "team")
        json_of("project", "create", "team/app")
        json_of("project", "create", "team/tools", "--job-allow", "team/app")
        file = self._directory / "password"
        file.write_text(self.password)
        json_of("user", "create", "alice", "--password-file", str(file))
        file.unlink()
        json_of("member", "add", "team", "alice", "developer")
        json_of("deploy-token", "create", "--project", "team/app", "--name", "gitlab-deploy-token", *PUSHING)
        return str(json_of("token", "create", "--user", "alice", "--name", "laptop", *PUSHING)["token"])


def reg_inside(machine: PrivateMachine) -> Path:
    """Puts reg into the machine's /usr/local/bin; returns its file."""
    return Path(shutil.copy(build_go_client(REG), machine.bin / "reg"))


@contextmanager
def open_guide(folder: Path) -> Iterator[Guide]:
    """The guide's server and clients on a machine of their own, with everything in a folder."""
    machine = PrivateMachine(folder)
    try:
        guide = Guide(machine, folder)
        yield guide
        guide.close()
    finally:
        machine.close()
