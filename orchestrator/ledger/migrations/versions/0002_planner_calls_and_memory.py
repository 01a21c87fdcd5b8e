"""Planner calls have spans of their own, and workers say how much they hold and what memory they need"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('attempt', sa.Column('plan_id', sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column('worker', sa.Column('plan_limit', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('worker', sa.Column('holds_max', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('worker', sa.Column('rss_mib', sa.Float(), nullable=True))
    op.add_column('worker', sa.Column('device_mib', sa.Float(), nullable=True))
    op.add_column('worker', sa.Column('growth_mib_per_100_takes', sa.Float(), nullable=True))

    with op.batch_alter_table('span') as span:
        span.drop_constraint(op.f('ck_span_known_state'), type_='check')
        span.create_check_constraint(op.f('ck_span_known_state'), "state in ('startup', 'plan', 'render', 'idle', 'teardown')")
