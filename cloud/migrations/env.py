"""What Alembic runs: revisions on the connection that `cloud.migrations` has opened, inside its transaction."""

from alembic import context

options = context.config.attributes
context.configure(
    connection=options["connection"],
    target_metadata=options["metadata"],
    include_object=options["include_object"],
    compare_type=True,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
