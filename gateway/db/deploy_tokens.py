"""Queries of the deploy tokens of projects and groups; only hashes of their secrets are stored."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.credential_rows import announce_credential, not_expired, prune, scopes_from_text, scopes_to_text
from gateway.db.schema import deploy_tokens, jobs
from gateway.namespaces.credential_rules import TOKEN_OF_JOBS, default_username
from gateway.namespaces.credentials import CredentialKind, CredentialRef, DeployToken
from gateway.namespaces.errors import DeployTokenUnknown
from gateway.namespaces.node import NodeKey, NodeKind

_ENDS = (deploy_tokens.c.expires_at, deploy_tokens.c.revoked_at)


async def create(connection: AsyncConnection, token: DeployToken, secret_hash: str) -> DeployToken:
    """Store a new token and return it with its id and user name; deletes tokens that ended long ago."""
    await prune(connection, deploy_tokens, _ENDS, token.created_at)
    values = {
        "group_id": token.node.id if token.node.kind is NodeKind.GROUP else None,
        "project_id": token.node.id if token.node.kind is NodeKind.PROJECT else None,
        "name": token.name,
        "username": token.username,
        "hash": secret_hash,
        "scopes": scopes_to_text(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }
    row = insert(deploy_tokens).values(values).returning(deploy_tokens.c.id)
    number = (await connection.execute(row)).scalar_one()
    stored = replace(token, id=number, username=token.username or default_username(number))
    if not token.username:
        named = update(deploy_tokens).where(deploy_tokens.c.id == number).values(username=stored.username)
        await connection.execute(named)
    await announce_credential(connection, stored.ref, secret_hash)
    return stored


async def find(connection: AsyncConnection, token_id: int) -> DeployToken | None:
    return await _find(connection, deploy_tokens.c.id == token_id)


async def find_by_hash(connection: AsyncConnection, secret_hash: str) -> DeployToken | None:
    return await _find(connection, deploy_tokens.c.hash == secret_hash)


async def get(connection: AsyncConnection, token_id: int) -> DeployToken:
    """Get the token of an id. Raises DeployTokenUnknown."""
    token = await find(connection, token_id)
    if token is None:
        raise DeployTokenUnknown(token_id)
    return token


async def list_all(connection: AsyncConnection, node: NodeKey | None = None) -> list[DeployToken]:
    """List the tokens of a project or group, or all, in the order in which they were made; also those that ended."""
    rows = select(deploy_tokens).order_by(deploy_tokens.c.id)
    if node is not None:
        rows = rows.where(is_of(node))
    return [to_deploy_token(row) for row in await connection.execute(rows)]


async def find_for_jobs(connection: AsyncConnection, nodes: Sequence[NodeKey], now: datetime) -> DeployToken | None:
    """Find the token that jobs are given: the newest valid one of that name, in the first node that has one."""
    valid = and_(
        deploy_tokens.c.name == TOKEN_OF_JOBS,
        deploy_tokens.c.revoked_at.is_(None),
        not_expired(deploy_tokens, now),
    )
    for node in nodes:
        newest = select(deploy_tokens).where(is_of(node), valid).order_by(deploy_tokens.c.id.desc()).limit(1)
        if row := (await connection.execute(newest)).first():
            return to_deploy_token(row)
    return None


async def revoke(connection: AsyncConnection, token_id: int, now: datetime) -> DeployToken:
    """End a token and return it; one that was revoked before keeps its time. Raises DeployTokenUnknown.

    The secrets that stand for it in jobs end with it, so they are announced too.
    """
    token = await get(connection, token_id)
    if token.revoked_at is not None:
        return token
    change = update(deploy_tokens).where(deploy_tokens.c.id == token_id).values(revoked_at=now)
    secret_hash = (await connection.execute(change.returning(deploy_tokens.c.hash))).scalar_one()
    await announce_credential(connection, token.ref, secret_hash)
    running = and_(jobs.c.deploy_token_id == token_id, jobs.c.finished_at.is_(None), jobs.c.expires_at > now)
    for job in (await connection.execute(select(jobs.c.id, jobs.c.deploy_hash).where(running))).all():
        if job.deploy_hash is not None:
            ref = CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, job.id)
            await announce_credential(connection, ref, job.deploy_hash)
    return replace(token, revoked_at=now)


def to_deploy_token(row: Row[Any]) -> DeployToken:
    """The token of a row."""
    in_group = row.group_id is not None
    return DeployToken(
        row.id,
        NodeKey(NodeKind.GROUP, row.group_id) if in_group else NodeKey(NodeKind.PROJECT, row.project_id),
        row.name,
        row.username,
        scopes_from_text(row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
    )


def is_of(node: NodeKey) -> ColumnElement[bool]:
    """Whether a token belongs to a project or group itself."""
    column = deploy_tokens.c.group_id if node.kind is NodeKind.GROUP else deploy_tokens.c.project_id
    return column == node.id


async def _find(connection: AsyncConnection, condition: ColumnElement[bool]) -> DeployToken | None:
    row = (await connection.execute(select(deploy_tokens).where(condition))).first()
    return to_deploy_token(row) if row else None
