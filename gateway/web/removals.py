"""Removal of tags and of whole repositories, each after a confirmation, and restoring them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from starlette.responses import Response

from cache.oci.digest import Digest
from cache.oci.errors import Denied, DigestInvalid, ManifestUnknown
from cache.oci.names import Tag
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.db.windows import ListWindow
from gateway.services import Services
from gateway.web.errors import PageError, PageUnknown
from gateway.web.page_places import PagePlaces, RepositoryPage, tag_of
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

MOST_TAGS = 200
"""Tags that one form removes; a page shows fewer."""

DELETED_SHOWN = 100
"""Deleted repositories that a page shows, the latest ones made first."""

_DONE, _INVALID = 200, 422


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of a tag that was to be removed. `problem`: why it is still there; empty where it is gone."""

    tag: str
    problem: str = ""
    kept_until: datetime | None = None


class Removals:
    """Handlers of what is removed and restored."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._administration = services.native.administration
        self._audited = AuditedChanges(services.audit)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        one = "/{project:path}/container_registry/{id}"
        return [
            PageRoute("GET", "/{project:path}/container_registry/deleted", self.deleted),
            PageRoute("GET", f"{one}/remove_tags", self.lead_back),
            PageRoute("POST", f"{one}/remove_tags", self.remove_tags),
            PageRoute("POST", f"{one}/tags/{{tag}}/restore", self.restore_tag),
            PageRoute("GET", f"{one}/delete", self.ask_to_delete),
            PageRoute("POST", f"{one}/delete", self.delete),
            PageRoute("POST", f"{one}/restore", self.restore),
        ]

    async def lead_back(self, visit: Visit) -> Response:
        """Lead whoever reloads the page of a removal to what is there."""
        return self._pages.lead(visit, (await self._places.repository(visit)).address)

    async def remove_tags(self, visit: Visit) -> Response:
        """Remove tags. Without the confirmation of a dialog a page asks for it."""
        page = await self._places.repository(visit, Action.DELETE_TAG)
        only, marked = visit.form.one("only"), visit.form.every("tag")
        tags = [tag_of(text) for text in ([only] if only else marked)]
        if not tags:
            raise PageError("Mark the tags that you want to remove, then choose Remove tags. Nothing was changed.")
        if len(tags) > MOST_TAGS:
            raise PageError(f"Mark at most {MOST_TAGS} tags at once. Nothing was changed.")
        if visit.form.one("confirmed") != "yes":
            return self._pages.show(
                visit, "remove_tags.html", _title(tags, "Remove"), page=page, project=page.project, tags=tags
            )
        removed = [await self._remove(visit, page, tag) for tag in tags]
        gone = sum(not removal.problem for removal in removed)
        title = "Nothing was removed" if not gone else f"{gone} {'tag' if gone == 1 else 'tags'} removed"
        return self._pages.show(
            visit, "tags_removed.html", title, page=page, project=page.project, removed=removed, gone=gone
        )

    async def restore_tag(self, visit: Visit) -> Response:
        """Point a tag to what it pointed to: to a digest of its history, or to what it had before its last change."""
        page, tag = await self._places.repository(visit, Action.PUSH), tag_of(visit.place["tag"])
        digest = visit.form.one("digest")
        try:
            wanted = Digest.parse(digest) if digest else None
        except DigestInvalid as error:
            raise PageError("The form names no digest. Nothing was changed.") from error
        restored = await self._administration.restore_tag(
            page.stored, tag, visit.principal.name, digest=wanted, moment=None, guard=page.guard
        )
        self._audited.restored(visit, page.path, tag, restored)
        return self._pages.lead(visit, f"{page.address}/tags/{tag}?restored=yes")

    async def ask_to_delete(self, visit: Visit) -> Response:
        """Ask whether a repository is to be deleted, by its path."""
        page = await self._places.repository(visit, Action.MANAGE)
        return await self._ask_to_delete(visit, page, "", 200)

    async def delete(self, visit: Visit) -> Response:
        """Delete a repository whose path was typed."""
        page = await self._places.repository(visit, Action.MANAGE)
        if visit.form.one("confirmation").strip() != page.path:
            return await self._ask_to_delete(visit, page, "What you typed is not the path of the repository.", _INVALID)
        level = await self._places.finder.level(visit.principal, page.project.place)
        await self._administration.delete_repository(page.stored, visit.principal.name, level)
        self._audited.deleted(visit, _DONE, page.path)
        return self._pages.lead(visit, f"{page.project.registry_path}/deleted?deleted={page.stored.id}")

    async def deleted(self, visit: Visit) -> Response:
        """List the deleted repositories of a project that can be restored."""
        page = await self._places.registry(visit, Action.MANAGE)
        window = ListWindow(DELETED_SHOWN, descending=True)
        part = await self._services.native.inventory.deleted_of(page.place.project.id, window, counted=False)
        return self._pages.show(
            visit,
            "deleted.html",
            f"Deleted repositories · {page.path}",
            page=page,
            project=page,
            part=part,
            kept_until=self._administration.kept_until,
            just_deleted=visit.query.one("deleted"),
        )

    async def restore(self, visit: Visit) -> Response:
        """Restore a deleted repository with its tags, under the path that it had."""
        page, id = await self._places.registry(visit, Action.MANAGE), visit.id_in_place("id")
        found = await self._services.native.inventory.find_deleted(id)
        if found is None or found.project_id != page.place.project.id:
            raise PageUnknown("there is no such deleted repository")
        restored = await self._administration.restore_repository(id, found.project_id)
        self._audited.restored(visit, restored.path)
        return self._pages.lead(visit, f"{page.registry_path}/{restored.id}?restored=yes")

    async def _ask_to_delete(self, visit: Visit, page: RepositoryPage, problem: str, status: int) -> Response:
        figures = (await self._services.native.inventory.figures([page.stored.id]))[page.stored.id]
        title = f"{'Error: delete' if problem else 'Delete'} {page.path}"
        return self._pages.show(
            visit,
            "delete_repository.html",
            title,
            status=status,
            page=page,
            project=page.project,
            figures=figures,
            problem=problem,
        )

    async def _remove(self, visit: Visit, page: RepositoryPage, tag: Tag) -> Removal:
        """Remove a tag; what stands in the way of one keeps no other."""
        try:
            deleted = await self._places.open(visit, page).delete_tag(tag)
        except ManifestUnknown:
            return Removal(tag.text, "There is no such tag any more.")
        except Denied as error:
            return Removal(tag.text, str(error.detail or error.message))
        self._audited.deleted(visit, _DONE, page.path, tag, deleted.digest)
        return Removal(tag.text, kept_until=deleted.kept_until)


def _title(tags: Sequence[Tag], verb: str) -> str:
    return f"{verb} tag {tags[0]}" if len(tags) == 1 else f"{verb} {len(tags)} tags"
