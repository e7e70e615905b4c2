"""Docker Hub: its names, hosts and special behaviour.

The registry's host differs from the one in image names, official images have a short name, and a HEAD of a manifest
does not count against the pull limit (https://docs.docker.com/docker-hub/usage/pulls/).
"""

from cache.oci.names import RepositoryName

NAME = "docker.io"
"""Host name with which people and clients write its images; the name of the upstream in the settings."""

ALIAS = "index.docker.io"
"""Older host name for the same images."""

REGISTRY_HOST = "registry-1.docker.io"
TOKEN_HOST = "auth.docker.io"

SETTINGS = {"url": f"https://{REGISTRY_HOST}", "token_hosts": (TOKEN_HOST,)}
"""Settings of the upstream that is always configured."""

HOSTS_WITH_FREE_CHECKS = frozenset({REGISTRY_HOST})
"""Registry hosts whose HEADs of manifests do not count for their limit on pulls."""

SAMPLE_IMAGE = RepositoryName("library/alpine")
"""An image that is known to exist, for a trial pull."""

_OFFICIAL = "library/"


def canonical_name(upstream: str) -> str:
    """The one name of an upstream that may be written by its alias."""
    return NAME if upstream == ALIAS else upstream


def full_name(upstream: str, image: RepositoryName) -> RepositoryName:
    """The name of an image in its registry: `library/alpine` for Docker Hub's `alpine`. Raises NameInvalid."""
    if upstream == NAME and "/" not in image.text:
        return RepositoryName.parse(f"{_OFFICIAL}{image}")
    return image


def short_names(upstream: str, image: RepositoryName) -> list[str]:
    """Shorter names that people write for an image: `alpine` for Docker Hub's `library/alpine`; else none."""
    short = image.text.removeprefix(_OFFICIAL)
    return [short] if upstream == NAME and short != image.text else []
