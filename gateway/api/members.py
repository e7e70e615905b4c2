"""Members of projects and groups: lists, and changes by who may administer these."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from gateway.administration.members import MemberAdministration
from gateway.api.documents import DocumentWriter
from gateway.api.errors import Conflicting, ParametersInvalid, ResourceUnknown, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, one, page_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, ListShape, NoParameters, Shape, Text, is_id
from gateway.api.tree_refusals import tree_refusals
from gateway.auth.matrix import Action
from gateway.directory.places import Place
from gateway.directory.tree_administration import NamedMember
from gateway.namespaces.errors import ExpiryInvalid
from gateway.namespaces.expiry import parse_expiry
from gateway.namespaces.role import Role
from gateway.services import Services

MEMBER = "Member"


class MemberListShape(ListShape):
    """Parameters of a list of members."""

    query: Annotated[Text, Field(max_length=255, description="Only members whose name holds this text.")] = ""


class MemberShape(Shape):
    """Parameters that give a role."""

    access_level: Annotated[
        Role,
        Field(description="The role: 10 guest, 20 reporter, 30 developer, 40 maintainer, 50 owner."),
    ]
    expires_at: Annotated[
        Text | None, Field(max_length=40, description="The day, UTC, from whose midnight on it means nothing.")
    ] = None


class NewMemberShape(MemberShape):
    """Parameters of a new member."""

    user_id: Annotated[int | None, Field(ge=1, description="The id of the user."), Blank] = None
    username: Annotated[Text | None, Field(max_length=255, description="The name of the user."), Blank] = None


class Members:
    """Handlers of members. `of`: the word for what has them, in paths."""

    def __init__(self, services: Services, places: Places, documents: DocumentWriter, options: ApiOptions) -> None:
        self._members = MemberAdministration(services)
        self._directory = services.directory
        self._clock = services.clock
        self._places = places
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [route for of in ("projects", "groups") for route in self._routes(of)]

    def _routes(self, of: str) -> list[Route[Any]]:
        members, single = f"/{of}/{{id}}/members", f"/{of}/{{id}}/members/{{user_id}}"
        every, any_single = f"/{of}/{{id}}/members/all", f"/{of}/{{id}}/members/all/{{user_id}}"
        return [
            Route("GET", members, partial_of(self.list_own, of), MemberListShape, "members", answer="Members"),
            Route("GET", every, partial_of(self.list_all, of), MemberListShape, "members", answer="Members"),
            Route("GET", single, partial_of(self.show_own, of), NoParameters, "member", answer="Member"),
            Route("GET", any_single, partial_of(self.show_any, of), NoParameters, "member", answer="Member"),
            Route(
                *("POST", members, partial_of(self.add, of), NewMemberShape, "member"),
                status=201,
                conflicts=True,
                answer="Member",
            ),
            Route("PUT", single, partial_of(self.update, of), MemberShape, "member", answer="Member"),
            Route("DELETE", single, partial_of(self.remove, of), NoParameters, "member", status=204),
        ]

    async def list_own(self, of: str, call: Call[MemberListShape]) -> Response:
        """List the members that a project or group has itself."""
        return await self._list(of, call, inherited=False)

    async def list_all(self, of: str, call: Call[MemberListShape]) -> Response:
        """List the members of a project or group, and of the groups above it, each once with the strongest role."""
        return await self._list(of, call, inherited=True)

    async def show_own(self, of: str, call: Call[NoParameters]) -> Response:
        """Show a member that a project or group has itself."""
        return await self._show(of, call, inherited=False)

    async def show_any(self, of: str, call: Call[NoParameters]) -> Response:
        """Show a member of a project or group, or of a group above it."""
        return await self._show(of, call, inherited=True)

    async def add(self, of: str, call: Call[NewMemberShape]) -> Response:
        """Give a user a role in a project or group, and in everything below it."""
        place, wanted = await self._find(of, call, Action.ADMIN), call.parameters
        role, user_id = wanted.access_level, await self._user_of(wanted)
        with tree_refusals():
            if await self._members.find(place, user_id) is not None:
                raise Conflicting("Member already exists")
            expires_at = _expiry_of(wanted.expires_at, self._clock())
            added = await self._members.add(call, place, user_id, role, expires_at)
        return one(self._documents.member(added), 201)

    async def update(self, of: str, call: Call[MemberShape]) -> Response:
        """Change the role and the expiry of a member."""
        place, wanted = await self._find(of, call, Action.ADMIN), call.parameters
        found, given = await self._get(place, call, inherited=False), wanted.model_fields_set
        expires_at = found.member.expires_at
        if "expires_at" in given:
            expires_at = _expiry_of(wanted.expires_at, self._clock())
        with tree_refusals():
            changed = await self._members.update(call, place, found, wanted.access_level, expires_at)
        return one(self._documents.member(changed))

    async def remove(self, of: str, call: Call[NoParameters]) -> Response:
        """Remove a member; what the user has from the groups above stays. Everybody may remove oneself."""
        user = call.principal.user
        is_own = user is not None and call.path["user_id"] == str(user.id)
        place = await self._find(of, call, Action.KNOW if is_own else Action.ADMIN)
        with tree_refusals():
            await self._members.remove(call, place, await self._get(place, call, inherited=False))
        return no_content()

    async def _list(self, of: str, call: Call[MemberListShape], *, inherited: bool) -> Response:
        place = await self._find(of, call, Action.KNOW)
        wanted = call.parameters
        found = await self._members.list_of(place, inherited=inherited)
        text = (wanted.query or wanted.search).lower()
        chosen = [one for one in found if text in one.user.name]
        if wanted.sort == "desc":
            chosen.reverse()
        return page_of(call, self._options, chosen, self._documents.member)

    async def _show(self, of: str, call: Call[NoParameters], *, inherited: bool) -> Response:
        place = await self._find(of, call, Action.KNOW)
        return one(self._documents.member(await self._get(place, call, inherited=inherited)))

    async def _find(self, of: str, call: "Call[Any]", action: Action) -> Place:
        if of == "groups":
            return await self._places.group_for(call.path["id"], call.principal, action)
        return await self._places.project(call.path["id"], call.principal, action)

    async def _get(self, place: Place, call: "Call[Any]", *, inherited: bool) -> NamedMember:
        text = call.path["user_id"]
        found = await self._members.find(place, int(text), inherited=inherited) if is_id(text) else None
        if found is None:
            raise ResourceUnknown(MEMBER)
        return found

    async def _user_of(self, wanted: NewMemberShape) -> int:
        """The id of the user who is meant. Raises ParametersInvalid, ResourceUnknown."""
        if (wanted.user_id is None) == (wanted.username is None):
            raise ParametersInvalid(["user_id, username are mutually exclusive, and one of them must be provided"])
        if wanted.user_id is not None:
            user = await self._directory.user(wanted.user_id)
        else:
            user = await self._directory.find_user(wanted.username or "")
        if user is None:
            raise ResourceUnknown("User")
        return user.id


def partial_of(handler: Callable[[str, Call[Any]], Any], of: str) -> Callable[[Call[Any]], Any]:
    """A handler for what a word stands for in paths, with the docstring of the one for both."""
    bound = partial(handler, of)
    bound.__doc__ = handler.__doc__
    return bound


def _expiry_of(text: str | None, now: datetime) -> datetime | None:
    """When a membership ends; an empty text is none. Raises ValuesRefused."""
    try:
        return parse_expiry(text, now) if text else None
    except ExpiryInvalid as error:
        raise ValuesRefused({"expires_at": [str(error)]}) from error
