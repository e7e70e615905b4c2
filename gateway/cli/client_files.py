"""Configuration files of clients that pull through this server; pure text."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway import docker_hub
from gateway.namespaces.paths import PROXY_SEPARATOR


class Client(StrEnum):
    """Clients for which a configuration can be printed."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    PODMAN = "podman"
    CRIO = "crio"
    BUILDKIT = "buildkit"
    GITLAB_CI = "gitlab-ci"


class ClientUnsupported(Exception):
    """The server cannot serve this client with its present settings; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """URL of a server without a path; clients append `/v2/`."""

    url: str

    @property
    def host(self) -> str:
        """HOST[:PORT], with which an image reference begins."""
        return urlsplit(self.url).netloc

    @property
    def plain(self) -> bool:
        """Whether it is http without TLS."""
        return self.url.startswith("http://")

    @property
    def is_loopback(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Access to the images of one upstream through one group.

    `root`: an address of its own, where names need no prefix. `by_ns`: whether `?ns=` leads through the group.
    `is_default`: whether the upstream is the one that the group serves where none is named.
    """

    main: ServerUrl
    root: ServerUrl | None
    group: str
    upstream: str
    by_ns: bool
    is_default: bool

    @property
    def prefix(self) -> str:
        """The path below which the group's images are, without slashes at its ends."""
        return f"{self.group}{PROXY_SEPARATOR}".rstrip("/")

    @property
    def location(self) -> str:
        """The replacement for the upstream's name in a reference."""
        return f"{self.main.host}/{self.prefix}/{self.upstream}"


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A configuration file; `path`: where the client reads it."""

    path: str
    text: str


def client_file(client: Client, mirror: Mirror) -> ClientFile:
    """Raises ClientUnsupported."""
    return _FILES[client](mirror)


def _docker(mirror: Mirror) -> ClientFile:
    if mirror.upstream != docker_hub.NAME:
        raise ClientUnsupported(
            f"dockerd mirrors {docker_hub.NAME} alone: pull images of {mirror.upstream} as {mirror.location}/IMAGE"
        )
    if mirror.root is None:
        raise ClientUnsupported(
            f"dockerd requests names without a prefix from a mirror, which needs its own address: add [[listener]] "
            f'with port = 8081, group = "{mirror.group}", upstream = "{docker_hub.NAME}" to the settings '
            "(or [[virtual_host]] with a name) and start the server again"
        )
    document: dict[str, list[str]] = {"registry-mirrors": [mirror.root.url]}
    addresses = {mirror.root.host: mirror.root, mirror.main.host: mirror.main}
    if plain := [host for host, address in addresses.items() if address.plain and not address.is_loopback]:
        document["insecure-registries"] = plain
    return ClientFile("/etc/docker/daemon.json", json.dumps(document, indent=2) + "\n")


def _containerd(mirror: Mirror) -> ClientFile:
    path = f"/etc/containerd/certs.d/{mirror.upstream}/hosts.toml"
    url, override = mirror.main.url, ""
    if not mirror.by_ns:
        url, override = f"{url}/v2/{mirror.prefix}/{mirror.upstream}", "  override_path = true\n"
    return ClientFile(
        path,
        f"""\
# {path}
# containerd reads it where its own configuration says config_path = "/etc/containerd/certs.d"; ctr and nerdctl where
# they are given --hosts-dir. What this server cannot give is requested from {mirror.upstream} itself.
[host."{url}"]
  capabilities = ["pull", "resolve"]
{override}""",
    )


def _podman(mirror: Mirror) -> ClientFile:
    return _registries_conf(mirror, "podman, buildah and skopeo read it with every command.")


def _crio(mirror: Mirror) -> ClientFile:
    return _registries_conf(mirror, "CRI-O reads it when it starts, and again after `systemctl reload crio`.")


def _registries_conf(mirror: Mirror, when: str) -> ClientFile:
    path = "/etc/containers/registries.conf.d/registry-gateway.conf"
    insecure = "insecure = true\n" if mirror.main.plain else ""
    return ClientFile(
        path,
        f"""\
# {path}
# {when} What this server cannot give is requested from {mirror.upstream} itself.
[[registry]]
prefix = "{mirror.upstream}"
location = "{mirror.upstream}"

[[registry.mirror]]
location = "{mirror.location}"
{insecure}""",
    )


def _buildkit(mirror: Mirror) -> ClientFile:
    path = "/etc/buildkit/buildkitd.toml"
    plain = f'\n[registry."{mirror.main.host}"]\n  http = true\n' if mirror.main.plain else ""
    return ClientFile(
        path,
        f"""\
# {path}, or any file: docker buildx create --config FILE
[registry."{mirror.upstream}"]
  mirrors = ["{mirror.location}"]
{plain}""",
    )


def _gitlab_ci(mirror: Mirror) -> ClientFile:
    prefix = f"{mirror.main.host}/{mirror.prefix}"
    name = "alpine:latest" if mirror.upstream == docker_hub.NAME else "IMAGE:TAG"
    image = name if mirror.is_default else f"{mirror.upstream}/{name}"
    insecure = ""
    if mirror.main.plain and not mirror.main.is_loopback:
        insecure = f'# It is plain http: the runner\'s dockerd needs "insecure-registries": ["{mirror.main.host}"].\n'
    return ClientFile(
        ".gitlab-ci.yml",
        f"""\
# .gitlab-ci.yml, or the CI/CD variables of a group: jobs that use GitLab's own dependency proxy need no other change.
{insecure}variables:
  CI_DEPENDENCY_PROXY_SERVER: "{mirror.main.host}"
  CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX: "{prefix}"
  CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX: "{prefix}"

default:
  image: "${{CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX}}/{image}"
""",
    )


_FILES: dict[Client, Callable[[Mirror], ClientFile]] = {
    Client.DOCKER: _docker,
    Client.CONTAINERD: _containerd,
    Client.PODMAN: _podman,
    Client.CRIO: _crio,
    Client.BUILDKIT: _buildkit,
    Client.GITLAB_CI: _gitlab_ci,
}
