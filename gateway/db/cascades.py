"""Announcements of what the database deletes together with a node: memberships, tokens, jobs and allowances."""

from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.changes import Concern, announce
from gateway.db.schema import deploy_tokens, job_allowances, jobs, members, personal_tokens, projects
from gateway.namespaces.node import NodeKey, NodeKind


async def announce_all(connection: AsyncConnection, node: NodeKey) -> None:
    """Announce everything that is deleted or loses its meaning with a node; call it before the node is deleted.

    A node of kind USER stands for the user.
    """
    for concern, keys in _affected(node):
        for key in sorted({str(key) for key in await connection.scalars(keys) if key is not None}):
            await announce(connection, concern, key)


def _affected(node: NodeKey) -> list[tuple[Concern, Select[Any]]]:
    if node.kind is NodeKind.USER:
        return [
            (Concern.CREDENTIAL, select(personal_tokens.c.hash).where(personal_tokens.c.user_id == node.id)),
            *_jobs(jobs.c.user_id == node.id),
        ]
    in_group = node.kind is NodeKind.GROUP
    tokens = (deploy_tokens.c.group_id if in_group else deploy_tokens.c.project_id) == node.id
    memberships = (members.c.group_id if in_group else members.c.project_id) == node.id
    allowed = (job_allowances.c.allowed_group_id if in_group else job_allowances.c.allowed_project_id) == node.id
    allowing = select(job_allowances.c.project_id).where(allowed)
    standing_in = jobs.c.deploy_token_id.in_(select(deploy_tokens.c.id).where(tokens))
    return [
        (Concern.MEMBER, select(members.c.user_id).where(memberships)),
        (Concern.CREDENTIAL, select(deploy_tokens.c.hash).where(tokens)),
        (Concern.PROJECT, select(projects.c.path).where(projects.c.id.in_(allowing))),
        *_jobs(standing_in if in_group else or_(standing_in, jobs.c.project_id == node.id)),
    ]


def _jobs(which: ColumnElement[bool]) -> list[tuple[Concern, Select[Any]]]:
    """The hashes of both secrets of jobs."""
    return [(Concern.CREDENTIAL, select(column).where(which)) for column in (jobs.c.hash, jobs.c.deploy_hash)]
