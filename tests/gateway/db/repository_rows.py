"""Rows of repositories, for tests of what lies in them."""

from datetime import datetime

from sqlalchemy import insert

from gateway.db import projects, schema, users
from gateway.db.engine import Database


async def add_repositories(database: Database, now: datetime, *paths: str) -> list[int]:
    """Store repositories of the project alice/p, which is made with its user, and return their ids."""
    async with database.write() as connection:
        await users.create(connection, "alice", now)
        project = await projects.create(connection, "alice/p", now)
        rows = [{"project_id": project.id, "path": path, "created_at": now} for path in paths]
        table = schema.repositories
        return [
            (await connection.execute(insert(table).values(row).returning(table.c.id))).scalar_one() for row in rows
        ]
