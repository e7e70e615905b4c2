"""Renaming a repository, and moving it to another project."""

from collections.abc import Sequence

from starlette.responses import Response

from cache.oci.errors import Denied, NameInvalid
from cache.oci.names import RepositoryName
from gateway.administration.repositories import RepositoryMoves
from gateway.auth.matrix import Action
from gateway.inspection.place_finder import PlaceUnknown
from gateway.namespaces.errors import TreeError
from gateway.services import Services
from gateway.web.errors import refusal, sentence
from gateway.web.page_places import PagePlaces, RepositoryPage
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

_INVALID = 422


class RepositoryMovePages:
    """Handlers of repositories that get another path."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._moves = RepositoryMoves(services, pages.options.old_paths)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        one = "/{project:path}/container_registry/{id}/move"
        return [PageRoute("GET", one, self.ask), PageRoute("POST", one, self.move)]

    async def ask(self, visit: Visit) -> Response:
        """Ask for the new path."""
        page = await self._places.repository(visit, Action.MANAGE)
        return self._ask(visit, page, page.path, "")

    async def move(self, visit: Visit) -> Response:
        """Move a repository with its tags; no image is copied."""
        page, text = await self._places.repository(visit, Action.MANAGE), visit.form.one("path").strip()
        try:
            path = RepositoryName.parse(text)
            destination = await self._moves.move(visit, page.project.place, page.stored, path)
        except PlaceUnknown:
            problem = "The path lies in no project that you may see: a path is that of a project, and names below it."
            return self._ask(visit, page, text, problem)
        except (NameInvalid, Denied) as error:
            return self._ask(visit, page, text, sentence(str(error.detail or error.message)))
        except TreeError as error:
            return self._ask(visit, page, text, refusal(error))
        return self._pages.lead(visit, f"/{destination.path}/container_registry/{page.stored.id}?moved=yes")

    def _ask(self, visit: Visit, page: RepositoryPage, typed: str, problem: str) -> Response:
        return self._pages.show(
            visit,
            "move_repository.html",
            f"{'Error: move' if problem else 'Move'} {page.path}",
            status=_INVALID if problem else 200,
            page=page,
            project=page.project,
            typed=typed,
            problem=problem,
            kept=self._pages.options.old_paths,
        )
