"""Queries that list personal access tokens and deploy tokens for whoever looks after them, part by part."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column, ColumnElement, Table, and_, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.bots import is_of as is_of_home
from gateway.db.credential_rows import not_expired
from gateway.db.deploy_tokens import is_of, to_deploy_token
from gateway.db.personal_tokens import to_personal_token
from gateway.db.schema import bots, deploy_tokens, personal_tokens
from gateway.db.windows import ListPart, ListWindow, holds, read_rows
from gateway.namespaces.credentials import DeployToken, PersonalToken
from gateway.namespaces.node import NodeKey


class TokenOrder(StrEnum):
    """What a list of personal tokens is sorted by; tokens that are alike in it, by their ids. Ids are given in the
    order in which tokens are made."""

    CREATED = "id"
    EXPIRES = "expires_at"
    LAST_USED = "last_used_at"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of time, from `after` on and until just before `before`; None where it has no such end."""

    after: datetime | None = None
    before: datetime | None = None


ANY_TIME = Span()


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which personal tokens a list holds; None for all. `active`: neither revoked nor expired. A token that does not
    expire, or was never used, is in no part of time. `home`: of the bots of this project or group."""

    user_id: int | None = None
    revoked: bool | None = None
    active: bool | None = None
    created: Span = ANY_TIME
    expires: Span = ANY_TIME
    last_used: Span = ANY_TIME
    home: NodeKey | None = None


async def list_personal(
    connection: AsyncConnection, wanted: TokenFilter, order: TokenOrder, window: ListWindow, now: datetime
) -> ListPart[PersonalToken]:
    """List some personal tokens, those that ended included; what has no time comes last."""
    column, id = personal_tokens.c[order.value], personal_tokens.c.id
    by_value = (column.desc(), id.desc()) if window.descending else (column, id)
    query = select(personal_tokens).where(*_wanted(wanted, now)).order_by(column.is_(None), *by_value)
    if window.search:
        query = query.where(holds(personal_tokens.c.name, window.search))
    return await read_rows(connection, query, window, to_personal_token, counted=True)


async def list_deploy(
    connection: AsyncConnection, node: NodeKey | None, active: bool | None, window: ListWindow, now: datetime
) -> ListPart[DeployToken]:
    """List some deploy tokens of a project or group itself, or of all, in the order in which they were made.

    `active`: whether those have not ended; None for all.
    """
    query = select(deploy_tokens).order_by(deploy_tokens.c.id)
    if node is not None:
        query = query.where(is_of(node))
    if window.search:
        query = query.where(holds(deploy_tokens.c.name, window.search))
    if active is not None:
        query = query.where(_state(deploy_tokens, active, now))
    return await read_rows(connection, query, window, to_deploy_token, counted=True)


def _wanted(wanted: TokenFilter, now: datetime) -> list[ColumnElement[bool]]:
    table = personal_tokens
    spans = (table.c.created_at, wanted.created), (table.c.expires_at, wanted.expires)
    found = [
        condition
        for column, span in (*spans, (table.c.last_used_at, wanted.last_used))
        for condition in _within(column, span)
    ]
    if wanted.user_id is not None:
        found.append(table.c.user_id == wanted.user_id)
    if wanted.home is not None:
        found.append(table.c.user_id.in_(select(bots.c.user_id).where(is_of_home(wanted.home))))
    if wanted.revoked is not None:
        found.append(table.c.revoked_at.is_not(None) if wanted.revoked else table.c.revoked_at.is_(None))
    if wanted.active is not None:
        found.append(_state(table, wanted.active, now))
    return found


def _within(column: "Column[datetime]", span: Span) -> list[ColumnElement[bool]]:
    after = [] if span.after is None else [column >= span.after]
    return after if span.before is None else [*after, column < span.before]


def _state(table: Table, active: bool, now: datetime) -> ColumnElement[bool]:
    is_active = and_(table.c.revoked_at.is_(None), not_expired(table, now))
    return is_active if active else not_(is_active)


__all__ = ["ANY_TIME", "Span", "TokenFilter", "TokenOrder", "list_deploy", "list_personal"]
