"""A usage record keeps the counts that its provider sent, as they came, beside those that are used.

Runs while the version before serves: a column that allows null is added, no row is rewritten, and the lock on the table
is held for a moment. The version before fills a staging table `LIKE usage_records` and leaves the column out, which is
null then. `json` and not `jsonb`: what came is kept to the letter.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A long query of a reader would make this wait, and every writer behind it. Then this fails; run it again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("usage_records", sa.Column("provider_usage", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("usage_records", "provider_usage")
