"""Workers of rentals that still run are added up as they go, and what a lost worker held is on record"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('tally',
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('period', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('catalog', sa.String(), nullable=False),
    sa.Column('zone', sa.String(), nullable=False),
    sa.Column('genre', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('ms', sa.BigInteger(), nullable=False),
    sa.Column('tracks', sa.BigInteger(), nullable=False),
    sa.Column('attempts', sa.BigInteger(), nullable=False),
    sa.Column('audio_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('worker_id', 'period', 'category', 'catalog', 'zone', 'genre', 'run_id', name=op.f('pk_tally'))
    )
    op.create_table('loss',
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('take_id', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('worker_id', 'take_id', name=op.f('pk_loss'))
    )
    op.add_column('rental', sa.Column('tally', sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column('rental', sa.Column('posted_ms', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    for name in ('tally_spans_ms', 'tally_attempts_ms', 'tally_reached_ms'):
        op.add_column('worker', sa.Column(name, sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.create_index('ix_cost_monthly_period', 'cost_monthly', ['period'], unique=False)
    op.create_index('ix_attempt_worker_id_at_ms', 'attempt', ['worker_id', 'at_ms'], unique=False)
    op.drop_index('ix_attempt_worker_id', table_name='attempt')
