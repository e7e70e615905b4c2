"""Shapes of requests for personal access tokens, access tokens of projects and groups, and deploy tokens."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.api.moments import Moment
from gateway.api.responses import offset_window
from gateway.api.shapes import Blank, PageShape, Shape, Text, refused
from gateway.db.token_lists import Span, TokenFilter, TokenOrder
from gateway.db.windows import ListWindow
from gateway.namespaces.credentials import Scope
from gateway.namespaces.role import Role


def _scopes(value: object) -> tuple[Scope, ...]:
    """A list of scopes, or their words with commas between them."""
    words = value.split(",") if isinstance(value, str) else value
    try:
        return tuple(Scope(word) for word in words if word != "")  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise refused("scopes does not have a valid value") from None


Scopes = Annotated[
    tuple[Scope, ...], BeforeValidator(_scopes), Field(description="What the token may be used for: a list.")
]


_ORDERS = {
    "created": TokenOrder.CREATED,
    "expires": TokenOrder.EXPIRES,
    "last_used": TokenOrder.LAST_USED,
    "name": TokenOrder.NAME,
}


class TokenListShape(PageShape):
    """Parameters of a list of tokens that act for users."""

    state: Annotated[
        Literal["active", "inactive"] | None, Blank, Field(description="Only tokens that have not ended, or that have.")
    ] = None
    revoked: Annotated[bool | None, Blank, Field(description="Whether they were revoked.")] = None
    created_after: Moment = None
    created_before: Moment = None
    last_used_after: Moment = None
    last_used_before: Moment = None
    expires_after: Moment = None
    expires_before: Moment = None
    sort: Annotated[
        Literal[
            "created_asc",
            "created_desc",
            "expires_asc",
            "expires_desc",
            "last_used_asc",
            "last_used_desc",
            "name_asc",
            "name_desc",
        ],
        Field(description="What the list is sorted by, and the direction."),
    ] = "created_asc"

    @property
    def filter(self) -> TokenFilter:
        """The tokens that are wanted, of whomever."""
        return TokenFilter(
            revoked=self.revoked,
            active=None if self.state is None else self.state == "active",
            created=Span(self.created_after, self.created_before),
            expires=Span(self.expires_after, self.expires_before),
            last_used=Span(self.last_used_after, self.last_used_before),
        )

    @property
    def order(self) -> TokenOrder:
        """What the list is sorted by."""
        return _ORDERS[self.sort.rpartition("_")[0]]

    @property
    def window(self) -> ListWindow:
        """The part of the list that is wanted, with the direction."""
        return offset_window(self, descending=self.sort.endswith("_desc"))


class NewTokenShape(Shape):
    """Parameters of a new token."""

    name: Annotated[Text, Field(description="What the token is for.")]
    scopes: Scopes
    expires_at: Annotated[Moment, Field(description="When it ends: a date or a time.")] = None


class NewPersonalTokenShape(NewTokenShape):
    """Parameters of a new personal access token."""

    description: Annotated[Text | None, Blank, Field(description="More of what it is for.")] = None


class NewAccessTokenShape(NewPersonalTokenShape):
    """Parameters of a new access token of a project or a group."""

    access_level: Annotated[
        Role,
        Field(description="What its bot is there: 10 guest, 20 reporter, 30 developer, 40 maintainer, 50 owner."),
    ] = Role.MAINTAINER


class NewDeployTokenShape(NewTokenShape):
    """Parameters of a new deploy token."""

    username: Annotated[Text | None, Blank, Field(description="The user name that is presented beside it.")] = None


class RotationShape(Shape):
    """Parameters of the token that takes the place of another one."""

    expires_at: Annotated[Moment, Field(description="When the new one ends; a week from now if it is not given.")] = (
        None
    )


class DeployTokenListShape(PageShape):
    """Parameters of a list of deploy tokens."""

    active: Annotated[
        bool | None, Blank, Field(description="Whether only those are listed that have not ended, or that have.")
    ] = None
