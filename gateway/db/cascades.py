"""Announcements of what the database deletes with a node: memberships, tokens, jobs, allowances, repositories."""

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import changes
from gateway.db.changes import Concern
from gateway.db.credential_rows import announce_credentials
from gateway.db.schema import (
    deploy_tokens,
    id_token_logins,
    job_allowances,
    jobs,
    members,
    personal_tokens,
    projects,
    repositories,
)
from gateway.namespaces.credentials import CredentialKind, CredentialRef
from gateway.namespaces.node import NodeKey, NodeKind


async def announce_all(connection: AsyncConnection, node: NodeKey) -> None:
    """Announce everything that is deleted or loses its meaning with a node; call it before the node is deleted.

    A node of kind USER stands for the user.
    """
    for concern, keys in _affected(node):
        await changes.announce_all(connection, concern, sorted({str(key) for key in await connection.scalars(keys)}))
    ended = []
    for kind, ids_and_hashes in _credentials(node):
        rows = (await connection.execute(ids_and_hashes)).all()
        ended += [(CredentialRef(kind, id), secret_hash) for id, secret_hash in rows]
    await announce_credentials(connection, ended)


def _affected(node: NodeKey) -> list[tuple[Concern, Select[Any]]]:
    if node.kind is NodeKind.USER:
        return []
    in_group = node.kind is NodeKind.GROUP
    memberships = (members.c.group_id if in_group else members.c.project_id) == node.id
    allowed = (job_allowances.c.allowed_group_id if in_group else job_allowances.c.allowed_project_id) == node.id
    of_project = repositories.c.project_id == node.id
    allowing = select(job_allowances.c.project_id).where(allowed)
    return [
        (Concern.MEMBER, select(members.c.user_id).where(memberships)),
        (Concern.PROJECT, select(projects.c.path).where(projects.c.id.in_(allowing))),
        *([] if in_group else [(Concern.REPOSITORY, select(repositories.c.path).where(of_project))]),
    ]


def _credentials(node: NodeKey) -> list[tuple[CredentialKind, Select[Any]]]:
    if node.kind is NodeKind.USER:
        tokens = select(personal_tokens.c.id, personal_tokens.c.hash).where(personal_tokens.c.user_id == node.id)
        logins = select(id_token_logins.c.id, id_token_logins.c.hash).where(id_token_logins.c.user_id == node.id)
        return [
            (CredentialKind.PERSONAL_TOKEN, tokens),
            (CredentialKind.ID_TOKEN_LOGIN, logins),
            *_jobs(jobs.c.user_id == node.id),
        ]
    in_group = node.kind is NodeKind.GROUP
    of_node = (deploy_tokens.c.group_id if in_group else deploy_tokens.c.project_id) == node.id
    standing_in = jobs.c.deploy_token_id.in_(select(deploy_tokens.c.id).where(of_node))
    return [
        (CredentialKind.DEPLOY_TOKEN, select(deploy_tokens.c.id, deploy_tokens.c.hash).where(of_node)),
        *_jobs(standing_in if in_group else or_(standing_in, jobs.c.project_id == node.id)),
    ]


def _jobs(which: ColumnElement[bool]) -> list[tuple[CredentialKind, Select[Any]]]:
    """The ids of jobs with the hashes of both of their secrets."""
    with_second = and_(which, jobs.c.deploy_hash.is_not(None))
    return [
        (CredentialKind.JOB_TOKEN, select(jobs.c.id, jobs.c.hash).where(which)),
        (CredentialKind.JOB_DEPLOY_TOKEN, select(jobs.c.id, jobs.c.deploy_hash).where(with_second)),
    ]
