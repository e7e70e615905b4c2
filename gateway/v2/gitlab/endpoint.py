"""Paths below /gitlab/v1/ as values. Each ends with a slash; one that lacks it is redirected (GitLab registry API)."""

import re
from dataclasses import dataclass
from enum import Enum

from cache.oci.names import RepositoryName, Tag

BASE = "/gitlab/v1/"
"""Path that tells whether a registry has this API."""


class GitlabResource(Enum):
    """What a path names; the values are those by which the log names it."""

    BASE = "ping"
    REPOSITORY = "repository"
    TAGS = "tags"
    TAG = "tag"
    REPOSITORIES = "repositories"


@dataclass(frozen=True, slots=True)
class GitlabEndpoint:
    """A parsed path. `name`: None for the base; `tag`: for one tag alone."""

    resource: GitlabResource
    name: RepositoryName | None = None
    tag: Tag | None = None

    @property
    def repository(self) -> RepositoryName:
        """The name. Raises TypeError for the base."""
        if self.name is None:
            raise TypeError("the base names no repository")
        return self.name


# The shortest name that leaves one of the endings counts.
_ENDPOINT = re.compile(
    r"repositories/(?P<name>.+?)/(?:(?P<tags>tags/list)/|tags/detail/(?P<tag>[^/]+)/)?"
    r"|repository-paths/(?P<above>.+)/repositories/list/",
    re.DOTALL,
)


def parse_gitlab_endpoint(path: str) -> GitlabEndpoint | None:
    """The endpoint of a path that ends with a slash; None for any other. Raises NameInvalid, TagInvalid."""
    if path == BASE:
        return GitlabEndpoint(GitlabResource.BASE)
    match = _ENDPOINT.fullmatch(path.removeprefix(BASE)) if path.startswith(BASE) else None
    if match is None:
        return None
    name = RepositoryName.parse(match["name"] or match["above"])
    if match["above"]:
        return GitlabEndpoint(GitlabResource.REPOSITORIES, name)
    if match["tags"]:
        return GitlabEndpoint(GitlabResource.TAGS, name)
    if match["tag"]:
        return GitlabEndpoint(GitlabResource.TAG, name, Tag.parse(match["tag"]))
    return GitlabEndpoint(GitlabResource.REPOSITORY, name)
