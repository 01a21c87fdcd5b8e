"""Logins and the keys of orders, the orders of a take, and corrections of the roll-call"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('strike',
    sa.Column('strike_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('is_struck', sa.Boolean(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('worker', sa.JSON(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('strike_id', name=op.f('pk_strike'))
    )
    op.create_index('ix_strike_worker_id', 'strike', ['worker_id'], unique=False)
    op.create_table('login',
    sa.Column('login', sa.String(), nullable=False),
    sa.Column('made_at_ms', sa.BigInteger(), nullable=False),
    sa.Column('ended_at_ms', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('login', name=op.f('pk_login'))
    )
    op.create_table('order_key',
    sa.Column('public_key', sa.String(), nullable=False),
    sa.Column('made_at_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('public_key', name=op.f('pk_order_key'))
    )
    op.add_column('worker', sa.Column('last_record', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('worker', sa.Column('login', sa.String(), server_default=sa.text("''"), nullable=False))
    op.create_index('ix_worker_login', 'worker', ['login'], unique=False)
    op.add_column('take', sa.Column('is_order_known', sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column('take', sa.Column('orders', sa.Integer(), server_default=sa.text('0'), nullable=False))
    unheld = sa.text("state = 'sent' and held_by is null")
    op.create_index('ix_take_unheld', 'take', ['run_id', 'state', 'queue', 'sent_at_ms'], unique=False, sqlite_where=unheld, postgresql_where=unheld)
    # Nobody noted until now which takes were sent before they came to wait again: each may have been.
    op.execute('update take set orders = 1')
    op.add_column('set_aside', sa.Column('login', sa.String(), server_default=sa.text("''"), nullable=False))
    # Time of workers whose first words were lost was on no bill: nothing is known of them but their spans.
    op.execute("""
        insert into worker (worker_id, host, gpu, vram_gib, model, model_fingerprint, code, noise, batch_limit,
            batch_limit_reason, started_at_ms, last_seen_ms, heard_at_ms, ended_at_ms, end_reason)
        select worker_id, '', '', 0, '', '', '', false, 0,
            'nothing is known of it but what it recorded later', min(start_ms), max(end_ms), max(end_ms), max(end_ms),
            'it was never heard of'
        from span where not exists (select 1 from worker where worker.worker_id = span.worker_id) group by worker_id""")
