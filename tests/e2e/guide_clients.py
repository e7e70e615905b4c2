"""Docker-compatible clients within a private machine, and the lines of the user guide as each of them is told."""

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.parts.clients import PrivateHome, forget_blob_locations
from tests.parts.docker_service import DockerService
from tests.parts.private_machine import PrivateMachine
from tests.parts.processes import binary


@dataclass(frozen=True)
class Lines:
    """The guide's examples for one client, without its name; $LIST is the name of an image for two platforms.

    `listed`: prints by which digest the client has an image.
    """

    build: str
    multi: Sequence[str]
    login: str = "login registry.example.com -u $USER -p $SECRET"
    push: str = "push $IMAGE"
    pull: str = "pull $IMAGE"
    remove: str = "rmi $IMAGE"
    listed: str = "images --digests --format {{.Digest}} $IMAGE"


OWN_LISTS = (
    "manifest create $LIST",
    "manifest add --arch amd64 $LIST docker://$LIST-amd64",
    "manifest add --arch arm64 $LIST docker://$LIST-arm64",
    "manifest push --all $LIST docker://$LIST",
)
LINES = {
    "docker": Lines(
        "build -t $IMAGE .",
        (
            "manifest create $LIST $LIST-amd64 $LIST-arm64",
            "manifest annotate --arch arm64 $LIST $LIST-arm64",
            "manifest push $LIST",
        ),
        listed="image inspect --format {{.RepoDigests}} $IMAGE",
    ),
    "podman": Lines("build -t $IMAGE .", OWN_LISTS),
    "buildah": Lines("bud -t $IMAGE .", OWN_LISTS, login="login -u $USER -p $SECRET registry.example.com"),
}


class Client(Protocol):
    """A client whose storage and logins last as long as the machine. Raises ClientFailed."""

    def run(self, line: str, directory: Path) -> str:
        """Runs the client with the words of a line in a folder; returns what it printed."""


class Docker:
    """docker with the dockerd of a machine."""

    def __init__(self, service: DockerService) -> None:
        self._service = service

    def run(self, line: str, directory: Path) -> str:
        return self._service.run(*shlex.split(line), directory=directory).stdout.strip()


class Daemonless:
    """podman or buildah with storage of its own, within a machine."""

    def __init__(self, name: str, machine: PrivateMachine) -> None:
        self._machine = machine
        place = machine.memory.with_name(name)
        self._environment = PrivateHome(place / "private").environment
        places = [f"--root={place / 'root'}", f"--runroot={place / 'run'}", "--storage-driver=vfs"]
        more = ["--events-backend=none", "--cgroup-manager=cgroupfs"] if name == "podman" else []
        self._argv = [binary(name, name), *places, *more]
        self._place = place

    def run(self, line: str, directory: Path) -> str:
        forget_blob_locations()
        words = [*self._argv, *shlex.split(line)]
        return self._machine.run(*words, directory=directory, environment=self._environment).stdout.strip()

    def close(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
