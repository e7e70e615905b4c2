"""Members of projects and groups: who they are and where their roles come from, and changes by who may make them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from starlette.responses import Response

from gateway.administration.members import MemberAdministration
from gateway.auth.matrix import Action
from gateway.directory.tree_administration import NamedMember
from gateway.inspection.place_finder import PlaceUnknown
from gateway.namespaces.errors import TreeError, UserUnknown
from gateway.namespaces.expiry import parse_expiry
from gateway.namespaces.node import NodeKind
from gateway.namespaces.role import Role
from gateway.services import Services
from gateway.web.errors import PageError, sentence
from gateway.web.formats import day
from gateway.web.forms import Form
from gateway.web.page_places import NodePage, PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

PAGE = 100
"""Members of one kind on a page."""

_INVALID = 422


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A member as a form asks for it. `problem`: why it was not added; empty where nobody has tried."""

    name: str = ""
    role: str = Role.DEVELOPER.word
    expires: str = ""
    problem: str = ""


class MemberPages:
    """Handlers of members."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._members = MemberAdministration(services)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            *self._routes("/{project:path}/-/project_members"),
            *self._routes("/groups/{group:path}/-/group_members"),
        ]

    def _routes(self, every: str) -> list[PageRoute]:
        return [
            PageRoute("GET", every, self.list_all),
            PageRoute("POST", every, self.add),
            PageRoute("POST", f"{every}/{{id}}", self.update),
            PageRoute("GET", f"{every}/{{id}}/remove", self.ask_to_remove),
            PageRoute("POST", f"{every}/{{id}}/remove", self.remove),
        ]

    async def list_all(self, visit: Visit) -> Response:
        """List the members, and show the form that adds one."""
        visit.require_user()
        return await self._list(visit, await self._places.node(visit), _Wanted())

    async def add(self, visit: Visit) -> Response:
        """Give a user a role."""
        page, form = await self._places.node(visit, Action.ADMIN), visit.form
        wanted = _Wanted(form.one("username").strip(), form.one("role"), form.one("expires_at").strip())
        try:
            user = await self._services.directory.find_user(wanted.name.lower())
            if user is None:
                raise UserUnknown(f"there is no user {wanted.name!r}")
            await self._members.add(visit, page.place, user.id, _role(form), self._expiry(wanted.expires))
        except TreeError as error:
            again = _Wanted(wanted.name, wanted.role, wanted.expires, sentence(str(error)))
            return await self._list(visit, page, again)
        return self._pages.lead(visit, f"{members_of(page)}?done=added")

    async def update(self, visit: Visit) -> Response:
        """Change the role and the expiry of a member."""
        page, form = await self._places.node(visit, Action.ADMIN), visit.form
        found = await self._own(visit, page)
        text, expires_at = form.one("expires_at").strip(), found.member.expires_at
        try:
            if text != day(expires_at):  # a day says less than the time that is stored
                expires_at = self._expiry(text)
            await self._members.update(visit, page.place, found, _role(form), expires_at)
        except TreeError as error:
            problem = sentence(f"{found.user.name}: {error}")
            return await self._list(visit, page, _Wanted(problem=problem))
        return self._pages.lead(visit, f"{members_of(page)}?done=changed")

    async def ask_to_remove(self, visit: Visit) -> Response:
        """Ask whether somebody is to be a member no longer."""
        page = await self._places.node(visit, self._needed(visit))
        found = await self._own(visit, page)
        title = f"Remove {found.user.name} from {page.path}"
        return self._pages.show(visit, "remove_member.html", title, **page.shown, found=found, members=members_of(page))

    async def remove(self, visit: Visit) -> Response:
        """Remove a member; who leaves may not know of the place any more."""
        page = await self._places.node(visit, self._needed(visit))
        await self._members.remove(visit, page.place, await self._own(visit, page))
        return self._pages.lead(visit, "/" if self._is_self(visit) else f"{members_of(page)}?done=removed")

    def _needed(self, visit: Visit) -> Action:
        """What a visitor needs to remove the member of a path."""
        return Action.KNOW if self._is_self(visit) else Action.ADMIN

    def _is_self(self, visit: Visit) -> bool:
        return visit.require_user().id == visit.id_in_place("id")

    async def _own(self, visit: Visit, page: NodePage) -> NamedMember:
        """The member of an id that a place has itself. Raises PlaceUnknown."""
        found = await self._members.find(page.place, visit.id_in_place("id"))
        if found is None:
            raise PlaceUnknown("there is no such member")
        return found

    def _expiry(self, text: str) -> datetime | None:
        """When a membership ends; an empty text is none. Raises ExpiryInvalid."""
        return parse_expiry(text, self._services.clock()) if text else None

    async def _list(self, visit: Visit, page: NodePage, wanted: _Wanted) -> Response:
        sought = visit.query.one("search").strip().lower()
        own = await self._members.list_of(page.place, inherited=False)
        every = await self._members.list_of(page.place, inherited=True)
        mine = await self._places.finder.role(visit.principal, page.place)
        above = [one for one in every if one.source != page.path and sought in one.user.name]
        return self._pages.show(
            visit,
            "members.html",
            f"{'Error: members' if wanted.problem else 'Members'} · {page.path}",
            status=_INVALID if wanted.problem else 200,
            **page.shown,
            own=_part(visit, [one for one in own if sought in one.user.name]),
            above=_part(visit, above),
            more=max(len(own), len(above)) > visit.page_number * PAGE,
            wanted=wanted,
            roles=[role for role in Role if mine is not None and role <= mine],
            search=sought,
            done=visit.query.one("done"),
            members=members_of(page),
            is_namespace=lambda one: one.member.node.kind is NodeKind.USER,
        )


def members_of(page: NodePage) -> str:
    """The address of the members of a place."""
    return f"{page.base}/{page.noun}_members"


def _part(visit: Visit, every: Sequence[NamedMember]) -> Sequence[NamedMember]:
    end = visit.page_number * PAGE
    return every[end - PAGE : end]


def _role(form: Form) -> Role:
    """The role of a form. Raises PageError."""
    try:
        return Role.parse(form.one("role"))
    except ValueError as error:
        raise PageError("The form names no role. Nothing was changed.") from error
