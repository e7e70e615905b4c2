"""DocumentWriter of the REST API: what GitLab's clients are told of repositories, tags, projects, groups and users."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.api.options import ApiOptions
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.db.tag_events import TagEvent
from gateway.directory.tree_administration import NamedMember
from gateway.namespaces.expiry import format_precisely
from gateway.namespaces.group import Group
from gateway.namespaces.node import NodeKind, PathEntry
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.user import User
from gateway.registry.inventory import TagDetails

USER_NAMESPACES = 1_000_000_000
"""Added to the id of a user it is that of the user's namespace, since GitLab numbers those together with groups."""

SHORT_REVISION = 9
"""Characters of the hash of a config by which GitLab's clients tell images apart."""


moment = format_precisely


def tag_moment(time: datetime) -> str:
    """A time as documents of tags have it: `2030-01-31T18:00:00.000+00:00`."""
    return moment(time).removesuffix("Z") + "+00:00"


class DocumentWriter:
    """Writes documents, with the URLs of one server."""

    def __init__(self, options: ApiOptions) -> None:
        self._options = options

    def repository(
        self, stored: StoredRepository, project: Project, *, manages: bool, cleaned_at: datetime | None = None
    ) -> dict[str, object]:
        """`manages`: whether the reader may delete it; `cleaned_at`: when a cleanup policy came to it last."""
        document: dict[str, object] = {
            "id": stored.id,
            "name": stored.path[len(project.path) :].removeprefix("/"),
            "path": stored.path,
            "project_id": project.id,
            "location": f"{self._options.registry}/{stored.path}",
            "created_at": moment(stored.created_at),
            "cleanup_policy_started_at": None if cleaned_at is None else moment(cleaned_at),
            "status": None,
        }
        if manages:
            api = f"{self._options.url}/api/v4/projects/{project.id}/registry/repositories/{stored.id}"
            document["delete_api_path"] = api
        return document

    def deleted_repository(
        self, deleted: DeletedRepository, project: Project, kept_until: datetime
    ) -> dict[str, object]:
        """A deleted repository, whose content is purged later. `kept_until`: it can be restored until then at least."""
        return {
            "id": deleted.id,
            "name": deleted.path[len(project.path) :].removeprefix("/"),
            "path": deleted.path,
            "project_id": project.id,
            "location": f"{self._options.registry}/{deleted.path}",
            "created_at": moment(deleted.created_at),
            "cleanup_policy_started_at": None,
            "status": "delete_ongoing" if deleted.is_going else "delete_scheduled",
            "deleted_at": moment(deleted.deleted_at),
            "deleted_by": deleted.deleted_by or None,
            "restorable_until": None if deleted.is_going else moment(kept_until),
        }

    def tag_event(self, event: TagEvent) -> dict[str, object]:
        """One change of a tag. `kept`: whether what it took away can be restored."""
        return {
            "id": event.id,
            "event": event.change.value,
            "at": moment(event.at),
            "by": event.actor or None,
            "from": event.before and str(event.before),
            "to": event.after and str(event.after),
            "kept": event.before in event.kept,
        }

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

    def project(self, project: Project, above: PathEntry, *, manages: bool) -> dict[str, object]:
        """`above`: the group or the user whose namespace holds the project. `manages`: whether the reader administers
        it."""
        name = project.path.rpartition("/")[2]
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
            "namespace": self.namespace(above),
            "container_registry_enabled": project.registry is not RegistryAccess.DISABLED,
            "container_registry_access_level": project.registry.value,
            "container_registry_image_prefix": f"{self._options.registry}/{project.path}",
            "_links": {"self": api, "repositories": f"{api}/registry/repositories"},
        }
        if manages:
            document["creator_id"] = project.created_by
        return document

    def group(self, group: Group, above: PathEntry | None) -> dict[str, object]:
        """`above`: the group above it; None for one at the top."""
        name = group.path.rpartition("/")[2]
        return {
            "id": group.id,
            "name": name,
            "path": name,
            "full_name": group.path.replace("/", " / "),
            "full_path": group.path,
            "parent_id": None if above is None else above.key.id,
            "visibility": group.visibility.value,
            "description": None,
            "web_url": f"{self._options.url}/groups/{group.path}",
            "created_at": moment(group.created_at),
            "avatar_url": None,
            "dependency_proxy_enabled": group.proxy_enabled,
        }

    def member(self, named: NamedMember) -> dict[str, object]:
        """A member of a project or group."""
        member, user = named.member, named.user
        return {
            **self._person(user),
            "access_level": int(member.role),
            "created_at": moment(member.created_at),
            "expires_at": None if member.expires_at is None else f"{member.expires_at.astimezone(UTC):%Y-%m-%d}",
            "membership_state": "active",
        }

    def namespace(self, entry: PathEntry) -> dict[str, object]:
        """A group, or a user's own namespace, as what holds projects."""
        is_group = entry.key.kind is NodeKind.GROUP
        name = entry.path.rpartition("/")[2]
        return {
            "id": entry.key.id if is_group else USER_NAMESPACES + entry.key.id,
            "name": name,
            "path": name,
            "kind": entry.key.kind.value,
            "full_path": entry.path,
            "parent_id": None,
            "avatar_url": None,
            "web_url": f"{self._options.url}/{'groups/' if is_group else ''}{entry.path}",
        }

    def user(self, user: User) -> dict[str, object]:
        """What a user is told of oneself."""
        document: dict[str, object] = {
            **self._person(user),
            "created_at": moment(user.created_at),
            "email": user.email,
            "external": user.external,
        }
        return document | ({"is_admin": True} if user.admin else {})

    def _person(self, user: User) -> Mapping[str, object]:
        """What everybody with a login may know of a user."""
        return {
            "id": user.id,
            "username": user.name,
            "name": user.name,
            "state": user.state,
            "avatar_url": None,
            "web_url": f"{self._options.url}/{user.name}",
        }
