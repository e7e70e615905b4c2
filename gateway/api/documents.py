"""DocumentWriter of the REST API: what GitLab's clients are told of repositories, tags, projects, groups and users."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.api.options import ApiOptions
from gateway.db.repositories import StoredRepository
from gateway.namespaces.group import Group
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.user import User
from gateway.registry.inventory import TagDetails

SHORT_REVISION = 9
"""Characters of the hash of a config by which GitLab's clients tell images apart."""


def moment(time: datetime) -> str:
    """A time with milliseconds, in UTC: `2030-01-31T18:00:00.000Z`."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def tag_moment(time: datetime) -> str:
    """A time as documents of tags have it: `2030-01-31T18:00:00.000+00:00`."""
    return moment(time).removesuffix("Z") + "+00:00"


class DocumentWriter:
    """Writes documents, with the URLs of one server."""

    def __init__(self, options: ApiOptions) -> None:
        self._options = options

    def repository(self, stored: StoredRepository, project: Project, *, manages: bool) -> dict[str, object]:
        """`manages`: whether the reader may delete it."""
        document: dict[str, object] = {
            "id": stored.id,
            "name": stored.path[len(project.path) :].removeprefix("/"),
            "path": stored.path,
            "project_id": project.id,
            "location": f"{self._options.registry}/{stored.path}",
            "created_at": moment(stored.created_at),
            "cleanup_policy_started_at": None,
            "status": None,
        }
        if manages:
            api = f"{self._options.url}/api/v4/projects/{project.id}/registry/repositories/{stored.id}"
            document["delete_api_path"] = api
        return document

    def tag(self, repository: str, name: str) -> dict[str, object]:
        """`repository`: its path."""
        path = f"{repository}:{name}"
        return {"name": name, "path": path, "location": f"{self._options.registry}/{path}"}

    def tags(self, repository: str, names: Sequence[str]) -> list[dict[str, object]]:
        return [self.tag(repository, name) for name in names]

    def tag_details(self, repository: str, details: TagDetails) -> dict[str, object]:
        """`repository`: its path. An index has no config, and so no revision."""
        stored, revision = details.stored, details.config.hex if details.config else None
        return {
            **self.tag(repository, stored.tag.text),
            "revision": revision,
            "short_revision": revision and revision[:SHORT_REVISION],
            "digest": str(stored.digest),
            "created_at": tag_moment(stored.created_at),
            "published_at": tag_moment(stored.moved_at),
            "media_type": details.media_type,
            "total_size": details.size,
        }

    def project(self, project: Project, above: NodeKey, *, manages: bool) -> dict[str, object]:
        """`above`: the group or the user whose namespace holds the project. `manages`: whether the reader administers
        it."""
        namespace, _, name = project.path.rpartition("/")
        url = f"{self._options.url}/{project.path}"
        api = f"{self._options.url}/api/v4/projects/{project.id}"
        document: dict[str, object] = {
            "id": project.id,
            "name": name,
            "name_with_namespace": project.path.replace("/", " / "),
            "path": name,
            "path_with_namespace": project.path,
            "description": None,
            "created_at": moment(project.created_at),
            "visibility": project.visibility.value,
            "web_url": url,
            "namespace": self._namespace(namespace, above),
            "container_registry_enabled": project.registry is not RegistryAccess.DISABLED,
            "container_registry_access_level": project.registry.value,
            "container_registry_image_prefix": f"{self._options.registry}/{project.path}",
            "_links": {"self": api, "repositories": f"{api}/registry/repositories"},
        }
        if manages:
            document["creator_id"] = project.created_by
        return document

    def group(self, group: Group, parent_id: int | None) -> dict[str, object]:
        """`parent_id`: the id of the group above it; None for one at the top."""
        name = group.path.rpartition("/")[2]
        return {
            "id": group.id,
            "name": name,
            "path": name,
            "full_name": group.path.replace("/", " / "),
            "full_path": group.path,
            "parent_id": parent_id,
            "visibility": group.visibility.value,
            "description": None,
            "web_url": f"{self._options.url}/groups/{group.path}",
            "created_at": moment(group.created_at),
        }

    def user(self, user: User) -> dict[str, object]:
        """What a user is told of oneself."""
        document: dict[str, object] = {
            "id": user.id,
            "username": user.name,
            "name": user.name,
            "state": user.state,
            "avatar_url": None,
            "web_url": f"{self._options.url}/{user.name}",
            "created_at": moment(user.created_at),
            "email": user.email,
            "external": user.external,
        }
        return document | ({"is_admin": True} if user.admin else {})

    def _namespace(self, path: str, above: NodeKey) -> Mapping[str, object]:
        is_group = above.kind is NodeKind.GROUP
        name = path.rpartition("/")[2]
        return {
            "id": above.id,
            "name": name,
            "path": name,
            "kind": above.kind.value,
            "full_path": path,
            "parent_id": None,
            "avatar_url": None,
            "web_url": f"{self._options.url}/{'groups/' if is_group else ''}{path}",
        }
