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
    `is_default`: whether the upstream is the one that the group serves where none is named. `falls_back`: whether the
    client may ask the upstream itself for what this server refuses or cannot provide.
    """

    main: ServerUrl
    root: ServerUrl | None
    group: str
    upstream: str
    by_ns: bool
    is_default: bool
    falls_back: bool = True

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
    _require_fallback("dockerd", route)
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
        url, override = f"{url}/v2/{route.prefix}/{route.upstream}", "override_path = true\n"
    head = f"""\
# {path}
# containerd reads it if its own configuration sets config_path = "/etc/containerd/certs.d"; ctr and nerdctl read it
# if --hosts-dir names that folder.
{_fallback_comment(route)}"""
    may = 'capabilities = ["pull", "resolve"]\n'
    # The last place that is asked is `server`. containerd 1 reads no file that has no table of a host.
    last = "" if route.falls_back else f'server = "{url}"\n{may}{override}\n'
    more = f"  {override}" if override else ""
    return ClientFile(path, f'{head}{last}[host."{url}"]\n  {may}{more}')


def _fallback_comment(route: ClientRoute) -> str:
    """Say in a file what becomes of images that this server refuses."""
    if not route.falls_back:
        return f"# Nothing is requested from {route.upstream} itself.\n"
    return (
        f"# What this server cannot provide or refuses, by a gate too, is requested from {route.upstream} itself,\n"
        "# but not with the file that --no-fallback prints.\n"
    )


def _require_fallback(client: str, route: ClientRoute) -> None:
    """Refuse a file without fallback for a client that has no setting for it. Raises ClientUnsupported."""
    if not route.falls_back:
        raise ClientUnsupported(
            f"{client} asks {route.upstream} itself for what a mirror refuses, and has no setting against it: name "
            f"images as {route.location}/IMAGE, or keep its machine from {route.upstream}"
        )


def _podman(route: ClientRoute) -> ClientFile:
    return _registries_conf(route, "podman, buildah and skopeo read it with every command.")


def _crio(route: ClientRoute) -> ClientFile:
    return _registries_conf(route, "CRI-O reads it when it starts, and again after `systemctl reload crio`.")


def _registries_conf(route: ClientRoute, when: str) -> ClientFile:
    path = "/etc/containers/registries.conf.d/registry-gateway.conf"
    insecure = "insecure = true\n" if route.main.plain else ""
    mirrored = f'location = "{route.upstream}"\n\n[[registry.mirror]]\n' if route.falls_back else ""
    return ClientFile(
        path,
        f"""\
# {path}
# {when}
{_fallback_comment(route)}[[registry]]
prefix = "{route.upstream}"
{mirrored}location = "{route.location}"
{insecure}""",
    )


def _buildkit(route: ClientRoute) -> ClientFile:
    _require_fallback("BuildKit", route)
    path = "/etc/buildkit/buildkitd.toml"
    plain = f'\n[registry."{route.main.host}"]\n  http = true\n' if route.main.plain else ""
    return ClientFile(
        path,
        f"""\
# {path}, or any file: docker buildx create --config FILE
# What this server cannot provide or refuses, by a gate too, is requested from {route.upstream} itself.
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
