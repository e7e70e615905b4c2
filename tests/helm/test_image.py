"""The image: buildah builds it, dockerd runs it as the Compose file does, a client pulls through it."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.example import Example
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.engines import Dockerd
from tests.parts.gateway import toml
from tests.parts.gateway_image import IMAGE, ImageBuilder
from tests.parts.images import Images
from tests.parts.ports import HOST, free_port
from tests.parts.processes import answers_http, wait_until
from tests.parts.registry import Registry

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("processes")]

[SERVICE] = yaml.safe_load(Example.COMPOSE.text)["services"].values()
NAME, USER = "gateway", 65532
LONGEST_START = 180


class Container:
    """The image with the restrictions of the Compose file, on the network of this machine."""

    def __init__(self, dockerd: Dockerd, directory: Path, upstream: Registry) -> None:
        self.port = free_port()
        self._dockerd = dockerd
        self.config = directory / "config.toml"
        settings = {
            "external_url": f"http://{HOST}:{self.port}",
            "port": self.port,
            "workers": 1,
            "upstreams": {"docker.io": upstream.settings()},
        }
        self.config.write_text(toml(settings))
        self.config.chmod(0o644)
        (directory / "secrets").mkdir()

    def start(self) -> None:
        """Runs it, with everything that the Compose file says but its port and its limit of descriptors, which needs
        a right that this machine may not give."""
        sources = {"./config.toml": str(self.config), "./secrets": str(self.config.parent / "secrets")}
        volumes = [volume.partition(":") for volume in SERVICE["volumes"]]
        words = ["--user", SERVICE["user"], "--network", "host", "--env", f"GATEWAY_HOST={HOST}"]
        words += [word for source, _, rest in volumes for word in ("--volume", f"{sources.get(source, source)}:{rest}")]
        words += [word for place in SERVICE["tmpfs"] for word in ("--tmpfs", place)]
        words += [word for name in SERVICE["cap_drop"] for word in ("--cap-drop", name)]
        words += [word for option in SERVICE["security_opt"] for word in ("--security-opt", option)]
        words += ["--read-only"] if SERVICE["read_only"] else []
        self._dockerd.run("run", "--detach", "--name", NAME, *words, IMAGE, *SERVICE["command"])
        self.wait()

    def start_again(self) -> None:
        self._dockerd.run("start", NAME)
        self.wait()

    def wait(self) -> None:
        ready = answers_http(f"http://{HOST}:{self.port}/-/ready")
        try:
            wait_until(lambda: ready() or not self.running, LONGEST_START)
            assert self.running
        except (TimeoutError, AssertionError) as error:
            logs = self._dockerd.run("logs", NAME, check=False)
            raise AssertionError(logs.stdout + logs.stderr) from error

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self._dockerd.run("container", "inspect", NAME).stdout)[0]["State"])

    @property
    def running(self) -> bool:
        return bool(self.state["Running"])

    def run(self, *words: str) -> str:
        """Runs a command in the container. Raises ClientFailed."""
        return self._dockerd.run("exec", NAME, *words).stdout

    def stop(self) -> int:
        """Stops it as `docker stop` does; returns the exit code."""
        self._dockerd.run("stop", "--time", "90", NAME)
        return int(self.state["ExitCode"])

    def proxied(self, image: str) -> str:
        return f"{HOST}:{self.port}/hub/dependency_proxy/containers/{image}"


@pytest.fixture(scope="module")
def dockerd(workplace: Path, processes: None) -> Iterator[Dockerd]:
    """dockerd that has the image, which is built once in a run."""
    with tempfile.TemporaryDirectory(dir=workplace) as directory:
        archive = Path(directory) / "image.tar"
        ImageBuilder(Path(directory) / "buildah").build(archive)
        engine = Dockerd(Path(directory) / "dockerd", "{}")
        try:
            engine.run("load", "--input", str(archive))
            archive.unlink()
            yield engine
        finally:
            engine.stop()


@pytest.fixture(scope="module")
def container(dockerd: Dockerd, workplace: Path, registry: Registry, images: Images) -> Iterator[Container]:
    registry.push(images.tiny, "library/in-a-container")
    with tempfile.TemporaryDirectory(dir=workplace) as directory:
        running = Container(dockerd, Path(directory), registry)
        try:
            running.start()
            yield running
        finally:
            dockerd.run("rm", "--force", "--volumes", NAME, check=False)


def test_the_image_says_how_it_is_run(dockerd: Dockerd) -> None:
    [inspected] = json.loads(dockerd.run("image", "inspect", IMAGE).stdout)
    config = inspected["Config"]
    assert config["User"] == SERVICE["user"] == f"{USER}:{USER}"
    assert list(config["Volumes"]) == ["/var/lib/registry-gateway"]
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Entrypoint"] == ["/opt/registry-gateway/bin/registry-gateway"]
    assert {"GATEWAY_HOST=0.0.0.0", "GATEWAY_DATA=/var/lib/registry-gateway/data"} <= set(config["Env"])


def test_a_client_pulls_through_it_and_it_keeps_what_it_holds(
    container: Container, images: Images, skopeo: Skopeo, scratch: Path
) -> None:
    reference = container.proxied("in-a-container:latest")
    assert skopeo.pull(reference, scratch / "first").digest == images.tiny.digest
    assert container.stop() == 0
    container.start_again()
    [cached] = json.loads(container.run("registry-gateway", "cache", "list", "--json"))
    assert cached["digest"] == images.tiny.digest
    assert skopeo.pull(reference, scratch / "second").digest == images.tiny.digest


def test_it_runs_without_rights_and_writes_its_data_alone(container: Container) -> None:
    pid = container.state["Pid"]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == dict.fromkeys(
        ("CapPrm", "CapEff", "CapBnd"), 0
    )
    assert status["NoNewPrivs"] == "1"
    assert container.run("stat", "--format", "%u:%g %a", "/var/lib/registry-gateway/data") == f"{USER}:{USER} 700\n"
    with pytest.raises(ClientFailed, match="Read-only file system"):
        container.run("touch", "/opt/registry-gateway/other")
    container.run("touch", "/tmp/other")


def test_the_health_check_of_the_compose_file_works(container: Container) -> None:
    command, *words = SERVICE["healthcheck"]["test"]
    assert command == "CMD"
    container.run(*(word.replace(":8080/", f":{container.port}/") for word in words))
    with pytest.raises(ClientFailed):
        container.run(*(word.replace(":8080/", f":{free_port()}/") for word in words))


def test_the_image_holds_what_the_lock_says_and_no_installer(container: Container) -> None:
    lock = Path(__file__).parents[1] / "requirements.lock"
    pinned = set(lock.read_text().lower().replace("_", "-").splitlines())
    listing = "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()))"
    found = set(container.run("/opt/registry-gateway/bin/python", "-c", listing).lower().replace("_", "-").split())
    own = {entry for entry in found if entry.startswith("registry-gateway==")}
    assert len(own) == 1
    assert found - own <= pinned
    assert not {"pip", "setuptools", "pytest"} & {entry.partition("==")[0] for entry in found}


def test_files_of_the_image_are_compiled_already(container: Container) -> None:
    """Nobody could write what Python compiles when the file system is read-only, at each start anew."""
    find = "import gateway, pathlib as p; f = p.Path(gateway.__file__).parent; print((f / '__pycache__').is_dir())"
    assert container.run("/opt/registry-gateway/bin/python", "-c", find).strip() == "True"
