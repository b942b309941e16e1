"""A row of access_decisions may stand for several requests without a key: `count` says how many.

Runs while the version before serves. PostgreSQL stores the default once and rewrites no row; the lock on the table is
held for a moment. The column allows null: the version before fills a staging table `LIKE access_decisions`, which would
take over NOT NULL and not the default, and then its events would be refused. No row has null, since what is left out of
an INSERT is 1.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A long query of a reader would make this wait, and every writer behind it. Then this fails; run it again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("access_decisions", sa.Column("count", sa.Integer(), server_default=sa.text("1"), nullable=True))


def downgrade() -> None:
    op.drop_column("access_decisions", "count")
