"""A take may be rendered anew, a run paused and cancelled, and only the last who took the lock may write"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

_COLUMNS = ('record_id, take_id, run_id, worker_id, audio_key, sha256, pcm_sha256, bytes, audio_ms, dit_seed, lm_seed, '
            'model_fingerprint, planner_fingerprint, code, gpu, noise, loudness_lufs, created_at_ms, sidecar')


def upgrade() -> None:
    op.create_table('writer',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('holder', sa.String(), nullable=False),
    sa.Column('since_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_writer'))
    )
    op.add_column('run', sa.Column('wish', sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column('worker', sa.Column('heard_at_ms', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('worker', sa.Column('clock_ahead_ms', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('worker', sa.Column('last_beat', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.execute('update worker set heard_at_ms = last_seen_ms')

    op.add_column('take', sa.Column('rendition_id', sa.String(), nullable=True))
    op.execute('update take set rendition_id = (select record_id from rendition where rendition.take_id = take.take_id) '
               "where state = 'accepted'")
    op.create_index('ix_take_run_id_state_queue_bucket_take_id', 'take', ['run_id', 'state', 'queue', 'bucket', 'take_id'], unique=False)
    op.drop_index('ix_take_run_id_state_bucket_take_id', table_name='take')
    op.create_index('ix_take_held_by', 'take', ['held_by'], unique=False)

    if op.get_bind().dialect.name == 'postgresql':
        op.drop_constraint(op.f('pk_rendition'), 'rendition', type_='primary')
        op.create_primary_key(op.f('pk_rendition'), 'rendition', ['record_id'])
        op.create_index('ix_rendition_take_id', 'rendition', ['take_id'], unique=False)
    else:
        _rebuild_rendition()

    with op.batch_alter_table('span') as span:
        span.drop_constraint(op.f('ck_span_known_state'), type_='check')
        span.create_check_constraint(op.f('ck_span_known_state'), "state in ('startup', 'plan', 'render', 'idle', 'post', 'teardown')")


def _rebuild_rendition() -> None:
    """SQLite cannot change a primary key."""
    op.drop_index('ix_rendition_run_id', table_name='rendition')
    op.rename_table('rendition', 'rendition_before')
    op.create_table('rendition',
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('take_id', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('audio_key', sa.String(), nullable=False),
    sa.Column('sha256', sa.String(), nullable=False),
    sa.Column('pcm_sha256', sa.String(), nullable=False),
    sa.Column('bytes', sa.BigInteger(), nullable=False),
    sa.Column('audio_ms', sa.BigInteger(), nullable=False),
    sa.Column('dit_seed', sa.BigInteger(), nullable=False),
    sa.Column('lm_seed', sa.BigInteger(), nullable=False),
    sa.Column('model_fingerprint', sa.String(), nullable=False),
    sa.Column('planner_fingerprint', sa.String(), nullable=False),
    sa.Column('code', sa.String(), nullable=False),
    sa.Column('gpu', sa.String(), nullable=False),
    sa.Column('noise', sa.Boolean(), nullable=False),
    sa.Column('loudness_lufs', sa.Float(), nullable=True),
    sa.Column('created_at_ms', sa.BigInteger(), nullable=False),
    sa.Column('sidecar', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('record_id', name=op.f('pk_rendition'))
    )
    op.execute(f'insert into rendition ({_COLUMNS}) select {_COLUMNS} from rendition_before')
    op.drop_table('rendition_before')
    op.create_index('ix_rendition_run_id', 'rendition', ['run_id'], unique=False)
    op.create_index('ix_rendition_take_id', 'rendition', ['take_id'], unique=False)
