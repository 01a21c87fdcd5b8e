"""The instant of a run's latest wish"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('run', sa.Column('wished_at_ms', sa.BigInteger(), nullable=True))
