"""What Alembic runs for every command: all revisions in the one transaction that `gateway.db.engine.migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
