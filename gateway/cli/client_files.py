"""Configuration files of clients that pull through this server; pure text."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from gateway.auth import exposure
from gateway.known_registries import DOCKER_HUB
from gateway.namespaces.paths import proxied_name


class Client(StrEnum):
    """Clients for which a configuration can be printed."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    PODMAN = "podman"
    CRIO = "crio"
    BUILDKIT = "buildkit"
    GITLAB_CI = "gitlab-ci"


class ClientUnsupported(Exception):
    """The server cannot serve this client with its present settings; the text states what to do."""


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
        return exposure.is_loopback(urlsplit(self.url).hostname or "")


@dataclass(frozen=True, slots=True)
class ClientRoute:
    """The route of a client to the images of one upstream, through one group of this server.

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
        return proxied_name(self.group, "").rstrip("/")

    @property
    def location(self) -> str:
        """The replacement for the upstream's name in a reference."""
        return f"{self.main.host}/{self.prefix}/{self.upstream}"


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A configuration file; `path`: where the client reads it."""

    path: str
    text: str


def client_file(client: Client, route: ClientRoute) -> ClientFile:
    """Write the configuration file with which a client pulls by a route. Raises ClientUnsupported."""
    return _FILES[client](route)


def _docker(route: ClientRoute) -> ClientFile:
    if route.upstream != DOCKER_HUB:
        raise ClientUnsupported(
            f"dockerd mirrors {DOCKER_HUB} alone: pull images of {route.upstream} as {route.location}/IMAGE"
        )
    if route.root is None:
        raise ClientUnsupported(
            f"dockerd requests names without a prefix from a mirror, which needs its own address: add [[listener]] "
            f'with port = 8081, group = "{route.group}", upstream = "{DOCKER_HUB}" to the settings '
            "(or [[virtual_host]] with a name) and start the server again"
        )
    document: dict[str, list[str]] = {"registry-mirrors": [route.root.url]}
    addresses = {route.root.host: route.root, route.main.host: route.main}
    if plain := [host for host, address in addresses.items() if address.plain and not address.is_loopback]:
        document["insecure-registries"] = plain
    return ClientFile("/etc/docker/daemon.json", json.dumps(document, indent=2) + "\n")


def _containerd(route: ClientRoute) -> ClientFile:
    path = f"/etc/containerd/certs.d/{route.upstream}/hosts.toml"
    url, override = route.main.url, ""
    if not route.by_ns:
        url, override = f"{url}/v2/{route.prefix}/{route.upstream}", "  override_path = true\n"
    return ClientFile(
        path,
        f"""\
# {path}
# containerd reads it if its own configuration sets config_path = "/etc/containerd/certs.d"; ctr and nerdctl read it
# if --hosts-dir names that folder. Images that this server cannot provide are requested from {route.upstream} itself.
[host."{url}"]
  capabilities = ["pull", "resolve"]
{override}""",
    )


def _podman(route: ClientRoute) -> ClientFile:
    return _registries_conf(route, "podman, buildah and skopeo read it with every command.")


def _crio(route: ClientRoute) -> ClientFile:
    return _registries_conf(route, "CRI-O reads it when it starts, and again after `systemctl reload crio`.")


def _registries_conf(route: ClientRoute, when: str) -> ClientFile:
    path = "/etc/containers/registries.conf.d/registry-gateway.conf"
    insecure = "insecure = true\n" if route.main.plain else ""
    return ClientFile(
        path,
        f"""\
# {path}
# {when} Images that this server cannot provide are requested from {route.upstream} itself.
[[registry]]
prefix = "{route.upstream}"
location = "{route.upstream}"

[[registry.mirror]]
location = "{route.location}"
{insecure}""",
    )


def _buildkit(route: ClientRoute) -> ClientFile:
    path = "/etc/buildkit/buildkitd.toml"
    plain = f'\n[registry."{route.main.host}"]\n  http = true\n' if route.main.plain else ""
    return ClientFile(
        path,
        f"""\
# {path}, or any file: docker buildx create --config FILE
[registry."{route.upstream}"]
  mirrors = ["{route.location}"]
{plain}""",
    )


def _gitlab_ci(route: ClientRoute) -> ClientFile:
    prefix = f"{route.main.host}/{route.prefix}"
    name = "alpine:latest" if route.upstream == DOCKER_HUB else "IMAGE:TAG"
    image = name if route.is_default else f"{route.upstream}/{name}"
    insecure = ""
    if route.main.plain and not route.main.is_loopback:
        insecure = f'# It is plain http: the runner\'s dockerd needs "insecure-registries": ["{route.main.host}"].\n'
    return ClientFile(
        ".gitlab-ci.yml",
        f"""\
# .gitlab-ci.yml, or the CI/CD variables of a group: jobs that use GitLab's own dependency proxy need no other change.
{insecure}variables:
  CI_DEPENDENCY_PROXY_SERVER: "{route.main.host}"
  CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX: "{prefix}"
  CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX: "{prefix}"

default:
  image: "${{CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX}}/{image}"
""",
    )


_FILES: dict[Client, Callable[[ClientRoute], ClientFile]] = {
    Client.DOCKER: _docker,
    Client.CONTAINERD: _containerd,
    Client.PODMAN: _podman,
    Client.CRIO: _crio,
    Client.BUILDKIT: _buildkit,
    Client.GITLAB_CI: _gitlab_ci,
}
