"""Takes that sound alike, and what a run does about them"""

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('run', sa.Column('duplicates', sa.String(), server_default=sa.text("'warn'"), nullable=False))
    op.create_table('chroma',
    sa.Column('chroma_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('codes', sa.String(), nullable=True),
    sa.Column('state', sa.String(), nullable=False),
    sa.CheckConstraint("state in ('due', 'compared', 'left')", name=op.f('ck_chroma_known_state')),
    sa.PrimaryKeyConstraint('chroma_id', name=op.f('pk_chroma')),
    sa.UniqueConstraint('record_id', name=op.f('uq_chroma_record_id'))
    )
    due = sa.text("state = 'due'")
    op.create_index('ix_chroma_due', 'chroma', ['chroma_id'], unique=False, sqlite_where=due, postgresql_where=due)
    op.create_table('chroma_code',
    sa.Column('code', sa.BigInteger(), nullable=False),
    sa.Column('chroma_id', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('code', 'chroma_id', name=op.f('pk_chroma_code')),
    sqlite_with_rowid=False
    )
    op.create_table('duplicate',
    sa.Column('later_id', sa.String(), nullable=False),
    sa.Column('earlier_id', sa.String(), nullable=False),
    sa.Column('share', sa.Float(), nullable=False),
    sa.Column('bit_error_rate', sa.Float(), nullable=False),
    sa.Column('is_due', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('later_id', 'earlier_id', name=op.f('pk_duplicate'))
    )
    op.create_index('ix_duplicate_earlier_id', 'duplicate', ['earlier_id'], unique=False)
