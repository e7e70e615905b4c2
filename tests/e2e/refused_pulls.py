"""Pulls that real clients make in vain, and what each of them prints."""

from typing import Any

import pytest

from tests.parts.clients import ClientFailed, Podman, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.ports import HOST, free_port
from tests.parts.registry import Registry


def failing_upstreams(registry: Registry) -> dict[str, dict[str, Any]]:
    """Settings of Docker Hub, of an upstream that is down, and of one whose images are refused."""
    nobody = {"url": f"http://{HOST}:{free_port()}", "private_addresses": True}
    return {"docker.io": registry.settings(), "down.example": nobody, "refused.example": nobody | {"deny": ["*"]}}


class RefusedPulls:
    """The clients that pull."""

    def __init__(self, dockerd: Dockerd, containerd: Containerd, podman: Podman, skopeo: Skopeo) -> None:
        self._dockerd, self._containerd, self._podman, self._skopeo = dockerd, containerd, podman, skopeo

    def __call__(self, image: str) -> dict[str, str]:
        """What each client prints where it cannot pull an image, by its name."""
        runs = {
            "docker": self._dockerd.run("pull", image, check=False),
            "podman": self._podman.run("pull", "--tls-verify=false", image, check=False),
            "ctr": self._containerd.pull("--plain-http", image, check=False),
        }
        assert [name for name, run in runs.items() if run.returncode == 0] == []
        with pytest.raises(ClientFailed) as failed:
            self._skopeo.run("inspect", "--tls-verify=false", f"docker://{image}")
        return {name: run.stderr for name, run in runs.items()} | {"skopeo": failed.value.stderr}
