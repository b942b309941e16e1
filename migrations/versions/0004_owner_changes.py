"""An index of the lifecycle events that moved a key to another owner: who owned a key when, for reading the audit.

Runs while the version before serves: it adds an index to a table of some thousand rows, and nothing else.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_audit_events_owner_changes",
        "audit_events",
        ["target", "id"],
        postgresql_where=sa.text("before ->> 'owner' <> after ->> 'owner'"),
    )


def downgrade() -> None:
    op.drop_index("ix_audit_events_owner_changes", "audit_events")
