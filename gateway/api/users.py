"""Users: who there is, and what administrators do with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.administration.accounts import AccountChanges, hash_given
from gateway.api.account_documents import AccountDocuments, is_administrator
from gateway.api.errors import Conflicting, Forbidden, ParametersInvalid, ResourceUnknown, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.responses import no_content, one, page, window_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, Flag, ListShape, NoParameters, SearchText, Shape, Text, is_id, parse_id_cursor
from gateway.db.user_lists import UserFilter, UserOrder
from gateway.directory.user_administration import UserAdministration
from gateway.namespaces.errors import (
    EmailInvalid,
    EmailTaken,
    LastAdministrator,
    NodeNotEmpty,
    PasswordRefused,
    PathInvalid,
    PathReserved,
    PathTaken,
    TreeError,
    UserUnknown,
)
from gateway.namespaces.old_path import RESERVED
from gateway.namespaces.user import UserChanges

ALL, ONE = "/users", "/users/{id}"
USER = "User"

_ORDERS = {"id": UserOrder.ID, "created_at": UserOrder.ID, "name": UserOrder.NAME, "username": UserOrder.NAME}
_ATTRIBUTES: Mapping[type[TreeError], str] = {
    PathInvalid: "username",
    EmailInvalid: "email",
    PasswordRefused: "password",
}

Password = Annotated[str | None, Blank, Field(repr=False, description="The password.")]


class UserListShape(ListShape):
    """Parameters of a list of users."""

    order_by: Annotated[
        Literal["id", "name", "username", "created_at"], Field(description="What the list is sorted by.")
    ] = "id"
    sort: Annotated[Literal["asc", "desc"], Field(description="The direction of the order.")] = "desc"
    cursor: Annotated[
        SearchText, Field(description="With keyset: where the page begins; taken from the link to it.")
    ] = ""
    username: Annotated[SearchText, Field(description="Only the user of this name.")] = ""
    active: Annotated[Flag, Field(description="Only users that are not blocked.")] = False
    blocked: Annotated[Flag, Field(description="Only users that are blocked.")] = False
    external: Annotated[Flag, Field(description="For administrators: only external users.")] = False
    exclude_external: Annotated[Flag, Field(description="For administrators: no external users.")] = False
    admins: Annotated[Flag, Field(description="For administrators: only administrators.")] = False

    def filter_for(self, administrator: bool) -> UserFilter:
        """The users that are wanted, as far as the reader may know."""
        return UserFilter(
            name=self.username or None,
            blocked=self.blocked if self.active != self.blocked else None,
            external=self.external if administrator and self.external != self.exclude_external else None,
            admin=True if administrator and self.admins else None,
            by_email=administrator,
        )


class NewUserShape(Shape):
    """Parameters of a new user. Others of GitLab's are taken and mean nothing here: mail is sent to nobody, and the
    name that people see is the user name."""

    username: Annotated[Text, Field(description="The name of the user, and of the user's namespace.")]
    email: Annotated[Text | None, Blank, Field(description="The address of electronic mail.")] = None
    password: Password = None
    reset_password: Annotated[Flag, Field(description="Make the user without a password.")] = False
    force_random_password: Annotated[Flag, Field(description="Make the user without a password.")] = False
    admin: Annotated[Flag, Field(description="Whether the user may do everything.")] = False
    external: Annotated[Flag, Field(description="Whether internal projects are hidden from the user.")] = False


class UserShape(Shape):
    """Parameters that are changed of a user; those that are not given stay."""

    username: Annotated[Text | None, Blank, Field(description="The name, which stays.")] = None
    name: Annotated[Text | None, Blank, Field(description="Taken, and not kept: it is the user name.")] = None
    email: Annotated[Text | None, Blank, Field(description="The address of electronic mail.")] = None
    password: Password = None
    admin: Annotated[bool | None, Blank, Field(description="Whether the user may do everything.")] = None
    external: Annotated[
        bool | None, Blank, Field(description="Whether internal projects are hidden from the user.")
    ] = None


class Users:
    """Handlers of users."""

    def __init__(
        self,
        administration: UserAdministration,
        documents: AccountDocuments,
        changes: AccountChanges,
        options: ApiOptions,
    ) -> None:
        self._administration = administration
        self._changes = changes
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", ALL, self.list_all, UserListShape, "users", answer="Accounts"),
            Route("GET", ONE, self.show, NoParameters, "user", answer="Account"),
            Route(
                *("POST", ALL, self.create, NewUserShape, "user"),
                administrators=True,
                status=201,
                conflicts=True,
                answer="Account",
            ),
            Route("PUT", ONE, self.update, UserShape, "user", administrators=True, conflicts=True, answer="Account"),
            Route(*("DELETE", ONE, self.delete, NoParameters, "user"), administrators=True, status=204, conflicts=True),
            Route(
                *("POST", f"{ONE}/block", self.block, NoParameters, "user"),
                administrators=True,
                status=201,
                conflicts=True,
            ),
            Route(
                *("POST", f"{ONE}/unblock", self.unblock, NoParameters, "user"),
                administrators=True,
                status=201,
            ),
        ]

    async def list_all(self, call: Call[UserListShape]) -> Response:
        """List users."""
        wanted, order = call.parameters, _ORDERS[call.parameters.order_by]
        window = window_of(wanted, _after(wanted, order))
        part = await self._administration.list_part(
            wanted.filter_for(is_administrator(call.principal)), order, window, counted=wanted.pagination is None
        )
        documents = [self._documents.user(user, call.principal) for user in part.rows]
        cursor = {"cursor": str(getattr(part.rows[-1], order.value))} if part.rows else {}
        return page(call, self._options, part, documents, cursor)

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one user."""
        with refusals():
            user = await self._administration.get(id_of(call))
        return one(self._documents.user(user, call.principal))

    async def create(self, call: Call[NewUserShape]) -> Response:
        """Make a user. One without a password can only use tokens."""
        wanted = call.parameters
        without = wanted.reset_password or wanted.force_random_password
        if wanted.password is None and not without:
            names = "password, reset_password, force_random_password"
            raise ParametersInvalid([f"{names} are missing, at least one parameter must be provided"])
        with refusals():
            password_hash = None if without else await hash_given(wanted.password)
            given = UserChanges(wanted.admin, wanted.external, wanted.email, None, password_hash)
            user = await self._changes.create(call, wanted.username, given)
        return one(self._documents.user(user, call.principal), 201)

    async def update(self, call: Call[UserShape]) -> Response:
        """Change a user."""
        wanted, id = call.parameters, id_of(call)
        if wanted == UserShape():
            names = ", ".join(UserShape.model_fields)
            raise ParametersInvalid([f"{names} are missing, at least one parameter must be provided"])
        with refusals():
            if wanted.username is not None and wanted.username != (await self._administration.get(id)).name:
                raise ValuesRefused({"username": ["cannot be changed: make another user"]})
            given = UserChanges(wanted.admin, wanted.external, wanted.email, None, await hash_given(wanted.password))
            user = await self._changes.update(call, id, given)
        return one(self._documents.user(user, call.principal))

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete a user with the user's memberships and tokens; the namespace must hold no project."""
        with refusals():
            await self._changes.delete(call, id_of(call))
        return no_content()

    async def block(self, call: Call[NoParameters]) -> Response:
        """Refuse every credential of a user."""
        if call.principal.user is not None and call.principal.user.id == id_of(call):
            raise Forbidden("nobody blocks the user whose token is sent: let another administrator do it")
        return await self._set_blocked(call, True)

    async def unblock(self, call: Call[NoParameters]) -> Response:
        """Accept the credentials of a user again."""
        return await self._set_blocked(call, False)

    async def _set_blocked(self, call: Call[NoParameters], blocked: bool) -> Response:
        with refusals():
            await self._changes.update(call, id_of(call), UserChanges(blocked=blocked))
        return one(True, 201)


def id_of(call: "Call[Any]") -> int:
    """The id that a path names. Raises ParametersInvalid."""
    if not is_id(call.path["id"]):
        raise ParametersInvalid(["id is invalid"])
    return int(call.path["id"])


@contextmanager
def refusals() -> Iterator[None]:
    """Render what the tree refuses of users within the block in the words of GitLab's clients."""
    try:
        yield
    except UserUnknown as error:
        raise ResourceUnknown(USER) from error
    except EmailTaken as error:
        raise Conflicting("Email has already been taken") from error
    except PathTaken as error:
        raise Conflicting("Username has already been taken") from error
    except (LastAdministrator, NodeNotEmpty) as error:
        raise Conflicting(f"409 Conflict - {error}") from error
    except PathReserved as error:
        raise ValuesRefused({"username": [RESERVED]}) from error
    except tuple(_ATTRIBUTES) as error:
        raise ValuesRefused({_ATTRIBUTES[type(error)]: [str(error)]}) from error


def _after(wanted: UserListShape, order: UserOrder) -> str | int | None:
    """Where a page of a keyset begins. Raises ParametersInvalid."""
    if wanted.pagination is None or not wanted.cursor:
        return None
    if order is UserOrder.NAME:
        return wanted.cursor
    return parse_id_cursor(wanted.cursor)
