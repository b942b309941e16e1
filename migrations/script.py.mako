"""${message}.

Runs while the version before serves: say why, and how long locks are held.
"""

from alembic import op

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A long query of a reader would make this wait, and every writer behind it. Then this fails; run it again.
    op.execute("SET LOCAL lock_timeout = '5s'")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
