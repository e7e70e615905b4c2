"""Shapes that requests for personal access tokens and deploy tokens share."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from gateway.api.moments import Moment
from gateway.api.shapes import Blank, PageShape, Shape, Text, refused
from gateway.namespaces.credentials import Scope


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


class NewTokenShape(Shape):
    """Parameters of a new token."""

    name: Annotated[Text, Field(description="What the token is for.")]
    scopes: Scopes
    expires_at: Annotated[Moment, Field(description="When it ends: a date or a time.")] = None


class NewPersonalTokenShape(NewTokenShape):
    """Parameters of a new personal access token."""

    description: Annotated[Text | None, Blank, Field(description="More of what it is for.")] = None


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
