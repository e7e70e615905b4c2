"""Alembic environment: runs all revisions of a command in the one transaction that `gateway.db.engine.migrate`
opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
