"""Protection of what an action would change: what the rules of a project say of it, beside the permissions."""

from datetime import datetime
from functools import partial

from cache.oci.errors import Denied
from cache.oci.names import Tag
from gateway.auth.access import Access
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.auth.protection import TagGuard, check_repository_deletion, describe_rule
from gateway.db import repositories, tags
from gateway.db.engine import Database
from gateway.db.tags import StoredTag
from gateway.directory.places import Located, ProjectPlace
from gateway.namespaces.locate import NativeLocation
from gateway.namespaces.protection import ProtectionKind

_TAG_DELETIONS = (Action.DELETE, Action.DELETE_TAG)


async def find_protection(
    database: Database,
    access: Access,
    principal: Principal,
    action: Action,
    located: Located,
    tag: Tag | None,
    now: datetime,
) -> str | None:
    """Why rules keep a principal from what its permissions allow; None where none does. `tag`: of the image that is
    located; None for the repository as a whole. Raises DatabaseUnusable."""
    place, location = located.place, located.location
    if not isinstance(place, ProjectPlace) or not isinstance(location, NativeLocation):
        return None
    level = await access.level(principal, located, now)
    guard, path = TagGuard(place.protection, level), location.name.text
    try:
        if tag is None:
            if action is Action.MANAGE:
                check_repository_deletion(place.protection, path, path[len(place.project.path) :], level)
        elif action is Action.PUSH:
            guard.check_push(tag)
            return _immutable(guard, tag, await _find(database, location, tag))
        elif action in _TAG_DELETIONS:
            guard.check_delete(tag)
    except Denied as error:
        return str(error.detail)
    return None


def _immutable(guard: TagGuard, tag: Tag, present: StoredTag | None) -> str | None:
    """Why a tag cannot be pushed with another image than it has; None for one that is new."""
    if present is None:
        return None
    for rule in guard.protection.of_tags:
        if rule.kind is ProtectionKind.IMMUTABLE and rule.matches(tag.text):
            return f"tag {tag} is immutable by {describe_rule(rule)}: it stays at {present.digest}, so push another tag"
    return None


async def _find(database: Database, location: NativeLocation, tag: Tag) -> StoredTag | None:
    repository = await database.query(partial(repositories.find, path=location.name))
    if repository is None:
        return None
    return await database.query(partial(tags.find_details, repository_id=repository.id, tag=tag))
