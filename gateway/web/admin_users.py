"""Admin > Users: who there is, and users that are made, blocked, given rights and deleted by administrators."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from gateway.administration.accounts import AccountChanges, hash_given
from gateway.db.user_lists import UserFilter, UserOrder
from gateway.db.windows import ListWindow
from gateway.namespaces.errors import TreeError, UserUnknown
from gateway.namespaces.user import User, UserChanges
from gateway.services import Services
from gateway.web.administrators import require_administrator
from gateway.web.errors import PageForbidden, PageUnknown, sentence
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

USERS = "/admin/users"
PAGE = 50
"""Users on a page."""

SHOWN = {
    "": ("All", UserFilter(by_email=True)),
    "admins": ("Administrators", UserFilter(admin=True, by_email=True)),
    "blocked": ("Blocked", UserFilter(blocked=True, by_email=True)),
    "external": ("External", UserFilter(external=True, by_email=True)),
}
"""Which users a list may hold, and what the page calls them."""

_INVALID = 422


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A user as a form asks for one. `problem`: why none was made; empty where nobody has tried."""

    name: str = ""
    email: str = ""
    admin: bool = False
    external: bool = False
    problem: str = ""


class AdminUsers:
    """Handlers of users."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._users = services.users
        self._changes = AccountChanges(services)
        self._pages = pages

    @property
    def routes(self) -> Sequence[PageRoute]:
        one = f"{USERS}/{{id}}"
        return [
            PageRoute("GET", USERS, self.list_all),
            PageRoute("POST", USERS, self.create),
            PageRoute("POST", f"{one}/rights", self.change_rights),
            PageRoute("POST", f"{one}/block", self.block),
            PageRoute("POST", f"{one}/unblock", self.unblock),
            PageRoute("GET", f"{one}/delete", self.ask_to_delete),
            PageRoute("POST", f"{one}/delete", self.delete),
        ]

    async def list_all(self, visit: Visit) -> Response:
        """List the users, and show the form that makes one."""
        require_administrator(visit)
        return await self._list(visit, _Wanted())

    async def create(self, visit: Visit) -> Response:
        """Make a user. One without a password can only use tokens, or sign in by an issuer."""
        require_administrator(visit)
        form = visit.form
        wanted = _Wanted(
            form.one("username").strip(), form.one("email").strip(), form.has("admin"), form.has("external")
        )
        try:
            password_hash = await hash_given(form.one("password") or None)
            given = UserChanges(wanted.admin, wanted.external, wanted.email or None, None, password_hash)
            user = await self._changes.create(visit, wanted.name, given)
        except TreeError as error:
            again = _Wanted(wanted.name, wanted.email, wanted.admin, wanted.external, sentence(str(error)))
            return await self._list(visit, again)
        return self._pages.lead(visit, f"{USERS}?search={user.name}&done=created")

    async def change_rights(self, visit: Visit) -> Response:
        """Say whether a user is an administrator, and whether one is external."""
        user = await self._other(visit, "change your own rights")
        return await self._change(visit, user, UserChanges(visit.form.has("admin"), visit.form.has("external")))

    async def block(self, visit: Visit) -> Response:
        """Refuse every credential of a user."""
        user = await self._other(visit, "block yourself")
        return await self._change(visit, user, UserChanges(blocked=True))

    async def unblock(self, visit: Visit) -> Response:
        """Accept the credentials of a user again."""
        require_administrator(visit)
        return await self._change(visit, await self._get(visit), UserChanges(blocked=False))

    async def ask_to_delete(self, visit: Visit) -> Response:
        """Ask whether a user is to be deleted, by name."""
        return self._ask(visit, await self._other(visit, "delete yourself"), "")

    async def delete(self, visit: Visit) -> Response:
        """Delete a user whose name was typed, with memberships and tokens."""
        user = await self._other(visit, "delete yourself")
        if visit.form.one("confirmation").strip() != user.name:
            return self._ask(visit, user, "What you typed is not the name of the user.")
        try:
            await self._changes.delete(visit, user.id)
        except TreeError as error:
            return self._ask(visit, user, sentence(str(error)))
        return self._pages.lead(visit, f"{USERS}?done=deleted")

    async def _get(self, visit: Visit) -> User:
        try:
            return await self._users.get(visit.id_in_place("id"))
        except UserUnknown as error:
            raise PageUnknown(str(error)) from error

    async def _other(self, visit: Visit, deed: str) -> User:
        """The user of an id, who is not the visitor: nobody shuts the own account. Raises PageForbidden."""
        administrator = require_administrator(visit)
        user = await self._get(visit)
        if user.id == administrator.id:
            raise PageForbidden(f"You cannot {deed}: let another administrator do it.")
        return user

    async def _change(self, visit: Visit, user: User, given: UserChanges) -> Response:
        try:
            after = await self._changes.update(visit, user.id, given)
        except TreeError as error:
            return await self._list(visit, _Wanted(problem=sentence(str(error))))
        return self._pages.lead(visit, f"{USERS}?search={after.name}&done=changed")

    def _ask(self, visit: Visit, user: User, problem: str) -> Response:
        title = f"{'Error: delete' if problem else 'Delete'} user {user.name}"
        status = _INVALID if problem else 200
        return self._pages.show(visit, "delete_user.html", title, status=status, shown=user, problem=problem)

    async def _list(self, visit: Visit, wanted: _Wanted) -> Response:
        query = visit.query
        show = query.one("show") if query.one("show") in SHOWN else ""
        search = query.one("search").strip()
        window = ListWindow(PAGE, after=query.one("after") or None, search=search)
        part = await self._users.list_part(SHOWN[show][1], UserOrder.NAME, window, counted=False)
        return self._pages.show(
            visit,
            "admin_users.html",
            f"{'Error: users' if wanted.problem else 'Users'} · Admin",
            status=_INVALID if wanted.problem else 200,
            part=part,
            wanted=wanted,
            search=search,
            show=show,
            shown=SHOWN,
            done=query.one("done"),
        )
