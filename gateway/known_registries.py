"""Well-known registries: their hosts and special behaviour, each fact with its public source.

Nothing here is needed to pull: a registry that is not listed works by what it says itself. The table spares settings,
and requests that would count against a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from cache.oci.names import RepositoryName

DOCKER_HUB = "docker.io"
"""Host name with which people and clients write the images of Docker Hub; the name of the built-in upstream."""

DOCKER_HUB_ALIAS = "index.docker.io"
"""Older host name for the same images."""

DOCKER_HUB_SAMPLE = RepositoryName("library/alpine")
"""An image of Docker Hub that is known to exist, for a trial pull."""

_OFFICIAL = "library/"
_AWS_LOGIN = "https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html"


@dataclass(frozen=True, slots=True)
class KnownRegistry:
    """Facts about a registry, or about the registries whose hosts match a pattern with `*`.

    `name`: what stands in the names of images. `host`: that of its API, where it is another one. `token_hosts`: hosts
    beside its own that issue its tokens, and may receive a credential for it. `redirect_hosts`: hosts to which it
    redirects, a leading `*.` for all below a name; they receive none. `free_checks`: a HEAD of a manifest does not
    count against its limit on pulls. `truthful_heads`: where it refuses a HEAD of a manifest, it refuses the GET.
    `settings`: those that a table with its name needs. `login`: what a credential for it consists of. `sources`: where
    each of these facts is published, by the name of its field.
    """

    name: str
    host: str = ""
    token_hosts: tuple[str, ...] = ()
    redirect_hosts: tuple[str, ...] = ()
    free_checks: bool = False
    truthful_heads: bool = False
    settings: tuple[str, ...] = ()
    login: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def covers(self, host: str) -> bool:
        """Whether a host name in image names, or in the URL of the registry, is that of this registry."""
        # A pattern is compiled at its first use, while a client waits: most names are none.
        return host in (self.name, self.host) or ("*" in self.name and fnmatchcase(host, self.name))


KNOWN_REGISTRIES = (
    KnownRegistry(
        DOCKER_HUB,
        host="registry-1.docker.io",
        token_hosts=("auth.docker.io",),
        redirect_hosts=(
            *("production.cloudflare.docker.com", "production.cloudfront.docker.com"),
            "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
        ),
        free_checks=True,
        truthful_heads=True,
        login="a user name with a password or an access token",
        sources={
            "host": "https://docs.docker.com/desktop/setup/allow-list/",
            "token_hosts": "https://docs.docker.com/desktop/setup/allow-list/",
            "redirect_hosts": "https://docs.docker.com/desktop/setup/allow-list/",
            "free_checks": "https://docs.docker.com/docker-hub/usage/pulls/",
            "truthful_heads": "https://docs.docker.com/docker-hub/usage/pulls/",
            "login": "https://docs.docker.com/security/access-tokens/",
        },
    ),
    KnownRegistry(
        "ghcr.io",
        redirect_hosts=("pkg-containers.githubusercontent.com",),
        login="any user name with a personal access token (classic, `read:packages`)",
        sources={
            "redirect_hosts": "https://github.com/scarf-sh/gateway/issues/35",
            "login": "https://docs.github.com/en/packages/working-with-a-github-packages-registry/"
            "working-with-the-container-registry",
        },
    ),
    KnownRegistry(
        "quay.io",
        redirect_hosts=("*.quay.io",),
        truthful_heads=True,
        login="a robot account like `namespace+robot` with its token",
        sources={
            "redirect_hosts": "https://github.com/openshift/openshift-docs/blob/main/modules/configuring-firewall.adoc",
            "truthful_heads": "https://github.com/quay/quay/blob/master/endpoints/v2/manifest.py",
            "login": "https://docs.quay.io/glossary/robot-accounts.html",
        },
    ),
    KnownRegistry(
        "registry.k8s.io",
        redirect_hosts=("*.pkg.dev", "*.amazonaws.com", "*.cloudfront.net"),
        sources={
            "redirect_hosts": "https://github.com/kubernetes/registry.k8s.io/blob/main/cmd/archeio/docs/"
            "request-handling.md",
        },
    ),
    KnownRegistry(
        "gcr.io",
        login="the user name `_json_key` with a service account's key, or `oauth2accesstoken`",
        sources={"login": "https://cloud.google.com/artifact-registry/docs/docker/authentication"},
    ),
    KnownRegistry(
        "*.pkg.dev",
        login="the user name `_json_key` with a service account's key, or `oauth2accesstoken`",
        sources={"login": "https://cloud.google.com/artifact-registry/docs/docker/authentication"},
    ),
    KnownRegistry(
        "mcr.microsoft.com",
        redirect_hosts=("*.data.mcr.microsoft.com",),
        sources={
            "redirect_hosts": "https://github.com/microsoft/containerregistry/blob/main/docs/mcr-endpoints-guidance.md",
        },
    ),
    KnownRegistry(
        "public.ecr.aws",
        redirect_hosts=("*.cloudfront.net",),
        login="the user name `AWS` with what `aws ecr-public get-login-password` prints",
        sources={
            "redirect_hosts": "https://anywhere.eks.amazonaws.com/docs/osmgmt/artifacts/",
            "login": "https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html",
        },
    ),
    KnownRegistry(
        "*.dkr.ecr.*.amazonaws.com",
        redirect_hosts=("*.amazonaws.com",),
        settings=("username", "password_command"),
        login="the user name `AWS` with what `aws ecr get-login-password` prints",
        sources={
            "redirect_hosts": "https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html",
            "settings": _AWS_LOGIN,
            "login": _AWS_LOGIN,
        },
    ),
    KnownRegistry(
        "*.azurecr.io",
        redirect_hosts=("*.blob.core.windows.net", "*.data.azurecr.io"),
        settings=("username", "password_file"),
        login="a service principal or a token of the registry, with its password",
        sources={
            "redirect_hosts": "https://learn.microsoft.com/en-us/azure/container-registry/"
            "container-registry-firewall-access-rules",
            "settings": "https://learn.microsoft.com/en-us/azure/container-registry/anonymous-pull-access",
            "login": "https://learn.microsoft.com/en-us/azure/container-registry/container-registry-authentication",
        },
    ),
    KnownRegistry(
        "registry.gitlab.com",
        token_hosts=("gitlab.com",),
        redirect_hosts=("cdn.registry.gitlab-static.net",),
        login="a user name with an access token, or a deploy token (`read_registry`)",
        sources={
            "token_hosts": "https://github.com/containers/image/issues/1265",
            "redirect_hosts": "https://docs.gitlab.com/user/gitlab_com/",
            "login": "https://docs.gitlab.com/user/packages/container_registry/authenticate_with_container_registry/",
        },
    ),
    KnownRegistry(
        "nvcr.io",
        token_hosts=("authn.nvidia.com",),
        login="the user name `$oauthtoken` with an NGC API key",
        sources={
            "token_hosts": "https://github.com/NVIDIA/nvidia-container-toolkit/issues/1945",
            "login": "https://docs.nvidia.com/ngc/ngc-private-registry-user-guide/",
        },
    ),
    KnownRegistry(
        "docker.elastic.co",
        token_hosts=("docker-auth.elastic.co",),
        sources={"token_hosts": "https://github.com/tighten/takeout/issues/119"},
    ),
    KnownRegistry(
        "lscr.io",
        token_hosts=("ghcr.io",),
        redirect_hosts=("ghcr.io", "pkg-containers.githubusercontent.com"),
        login="that of ghcr.io",
        sources={
            "token_hosts": "https://github.com/getwud/wud/issues/143",
            "redirect_hosts": "https://github.com/scarf-sh/gateway/issues/35",
            "login": "https://github.com/getwud/wud/issues/143",
        },
    ),
    KnownRegistry(
        "registry.access.redhat.com",
        redirect_hosts=("*.quay.io",),
        sources={
            "redirect_hosts": "https://github.com/openshift/openshift-docs/blob/main/modules/configuring-firewall.adoc",
        },
    ),
    KnownRegistry(
        "cgr.dev",
        redirect_hosts=("9236a389bd48b984df91adc1bc924620.r2.cloudflarestorage.com",),
        login="the identity of a pull token with its password",
        sources={
            "redirect_hosts": "https://edu.chainguard.dev/chainguard/containers/registry/network-requirements/",
            "login": "https://edu.chainguard.dev/chainguard/containers/registry/authenticating/",
        },
    ),
    KnownRegistry(
        "registry.suse.com",
        token_hosts=("scc.suse.com",),
        login="the credential of the SUSE Customer Center",
        sources={
            "token_hosts": "https://github.com/rancher/ecm-distro-tools/blob/master/release/rancher/rancher.go",
            "login": "https://github.com/SUSE/BCI-dockerfile-generator/pull/1075",
        },
    ),
)


def find_registry(host: str) -> KnownRegistry | None:
    """Find what is known of a registry, by the name of its images or by the host of its URL."""
    return next((known for known in KNOWN_REGISTRIES if known.covers(host)), None)


def default_url(name: str) -> str:
    """The URL of the registry whose images are written with a name."""
    known = find_registry(name)
    return f"https://{known.host if known and known.host else name}"


def canonical_name(upstream: str) -> str:
    """The one name of an upstream that may be written by its alias."""
    return DOCKER_HUB if upstream == DOCKER_HUB_ALIAS else upstream


def full_name(upstream: str, image: RepositoryName) -> RepositoryName:
    """The name of an image in its registry: `library/alpine` for Docker Hub's `alpine`. Raises NameInvalid."""
    if upstream == DOCKER_HUB and "/" not in image.text:
        return RepositoryName.parse(f"{_OFFICIAL}{image}")
    return image


def short_names(upstream: str, image: RepositoryName) -> list[str]:
    """Shorter names that people write for an image: `alpine` for Docker Hub's `library/alpine`; else none."""
    short = image.text.removeprefix(_OFFICIAL)
    return [short] if upstream == DOCKER_HUB and short != image.text else []
