"""A usage record keeps the client's session, and the requested name of an alias or of a model that a wildcard matched.

Runs while the version before serves: both columns allow null and have no default, so no row is rewritten, and the
version before leaves them out.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = ("session", "requested_model")


def upgrade() -> None:
    # A long query of a reader would make this wait, and every writer behind it. Then this fails; run it again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _COLUMNS:
        op.execute(f"ALTER TABLE usage_records ADD COLUMN {name} text")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _COLUMNS:
        op.drop_column("usage_records", name)
