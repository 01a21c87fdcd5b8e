"""The takes that a catalog wants of a track, how often a refused one is made again, and verdicts that ask for it"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('run', sa.Column('tries', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('take', sa.Column('wanted', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.add_column('verdict', sa.Column('again', sa.Boolean(), server_default=sa.false(), nullable=False))
