"""The best of several takes of a track: how many are kept, by which scores, and which are spare or picked"""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('run', sa.Column('choose_by', sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column('take', sa.Column('keep', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('take', sa.Column('is_choice_due', sa.Boolean(), server_default=sa.false(), nullable=False))
    due = sa.text('is_choice_due')
    op.create_index('ix_take_choice_due', 'take', ['track_key'], unique=False, sqlite_where=due, postgresql_where=due)
    op.add_column('verdict', sa.Column('spare', sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column('verdict', sa.Column('picked', sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table('score',
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('scores', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('record_id', name=op.f('pk_score'))
    )
