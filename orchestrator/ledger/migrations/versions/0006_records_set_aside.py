"""Records that could not be written down are kept, with the reason"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('set_aside',
    sa.Column('digest', sa.String(), nullable=False),
    sa.Column('set_aside_ms', sa.BigInteger(), nullable=False),
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('fault', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('raw', sa.LargeBinary(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('is_due', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_set_aside'))
    )
    op.create_index('ix_set_aside_set_aside_ms', 'set_aside', ['set_aside_ms'], unique=False)
    op.create_index('ix_set_aside_worker_id', 'set_aside', ['worker_id'], unique=False)
