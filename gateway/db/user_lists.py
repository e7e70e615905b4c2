"""Queries that list users for other users and for administrators, part by part."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.schema import bots, users
from gateway.db.users import to_user
from gateway.db.windows import ListPart, ListWindow, holds, in_order, read_rows
from gateway.namespaces.user import User


class UserOrder(StrEnum):
    """What a list of users is sorted by. Ids are given in the order in which users are made."""

    ID = "id"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users a list holds; None for all.

    `by_email`: whether a search finds the user of an address, too, which is for those alone who may know addresses.
    """

    name: str | None = None
    blocked: bool | None = None
    external: bool | None = None
    admin: bool | None = None
    by_email: bool = False


async def list_users(
    connection: AsyncConnection, wanted: UserFilter, order: UserOrder, window: ListWindow, *, counted: bool
) -> ListPart[User]:
    """List some people: bots of access tokens are none. `counted`: whether the total is wanted."""
    query = select(users).where(users.c.id.not_in(select(bots.c.user_id)))
    if wanted.name is not None:
        query = query.where(users.c.name == wanted.name.lower())
    for column, value in (
        (users.c.blocked, wanted.blocked),
        (users.c.external, wanted.external),
        (users.c.admin, wanted.admin),
    ):
        if value is not None:
            query = query.where(column.is_(value))
    if window.search:
        named = holds(users.c.name, window.search)
        query = query.where(or_(named, users.c.email == window.search.lower()) if wanted.by_email else named)
    return await read_rows(connection, in_order(query, users.c[order.value], window), window, to_user, counted=counted)
