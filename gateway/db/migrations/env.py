"""Alembic environment: runs all revisions of a command in the one transaction that its connection holds.

Each revision from 0005 on states as `oldest_program` the oldest revision whose programs can use the database after it.
"""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
context.run_migrations()
newest = context.script.get_revision(context.script.get_current_head() or "")
connection.execute(text("UPDATE compatibility SET oldest_program = :oldest"), {"oldest": newest.module.oldest_program})
