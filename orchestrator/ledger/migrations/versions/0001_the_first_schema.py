"""The first schema"""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('attempt',
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('take_id', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('reasons', sa.JSON(), nullable=False),
    sa.Column('adopted', sa.Boolean(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.Column('batch_size', sa.Integer(), nullable=False),
    sa.Column('plan_ms', sa.Integer(), nullable=False),
    sa.Column('encode_ms', sa.Integer(), nullable=False),
    sa.Column('diffuse_ms', sa.Integer(), nullable=False),
    sa.Column('decode_ms', sa.Integer(), nullable=False),
    sa.Column('post_ms', sa.Integer(), nullable=False),
    sa.Column('audio_ms', sa.BigInteger(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("outcome in ('accepted', 'rejected', 'failed')", name=op.f('ck_attempt_known_outcome')),
    sa.PrimaryKeyConstraint('record_id', name=op.f('pk_attempt'))
    )
    op.create_index('ix_attempt_run_id_at_ms', 'attempt', ['run_id', 'at_ms'], unique=False)
    op.create_index('ix_attempt_take_id', 'attempt', ['take_id'], unique=False)
    op.create_index('ix_attempt_worker_id', 'attempt', ['worker_id'], unique=False)

    op.create_table('rendition',
    sa.Column('take_id', sa.String(), nullable=False),
    sa.Column('record_id', sa.String(), nullable=False),
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
    sa.PrimaryKeyConstraint('take_id', name=op.f('pk_rendition'))
    )
    op.create_index('ix_rendition_run_id', 'rendition', ['run_id'], unique=False)

    op.create_table('run',
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('catalog', sa.String(), nullable=False),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('started_at_ms', sa.BigInteger(), nullable=False),
    sa.Column('finished_at_ms', sa.BigInteger(), nullable=True),
    sa.Column('max_usd_micros', sa.BigInteger(), nullable=True),
    sa.Column('take_usd_micros', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state in ('active', 'finished', 'cancelled')", name=op.f('ck_run_known_state')),
    sa.PrimaryKeyConstraint('run_id', name=op.f('pk_run'))
    )
    op.create_index('ix_run_catalog', 'run', ['catalog'], unique=False)

    op.create_table('span',
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.Column('cause', sa.String(), nullable=False),
    sa.CheckConstraint("state in ('startup', 'render', 'idle', 'teardown')", name=op.f('ck_span_known_state')),
    sa.PrimaryKeyConstraint('worker_id', 'start_ms', name=op.f('pk_span'))
    )
    op.create_table('worker',
    sa.Column('worker_id', sa.String(), nullable=False),
    sa.Column('host', sa.String(), nullable=False),
    sa.Column('gpu', sa.String(), nullable=False),
    sa.Column('vram_gib', sa.Float(), nullable=False),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('model_fingerprint', sa.String(), nullable=False),
    sa.Column('code', sa.String(), nullable=False),
    sa.Column('noise', sa.Boolean(), nullable=False),
    sa.Column('batch_limit', sa.Integer(), nullable=False),
    sa.Column('batch_limit_reason', sa.String(), nullable=False),
    sa.Column('started_at_ms', sa.BigInteger(), nullable=False),
    sa.Column('last_seen_ms', sa.BigInteger(), nullable=False),
    sa.Column('ended_at_ms', sa.BigInteger(), nullable=True),
    sa.Column('end_reason', sa.String(), nullable=True),
    sa.Column('price_sku', sa.String(), nullable=True),
    sa.Column('price_source', sa.String(), nullable=True),
    sa.Column('rate_usd_micros_per_h', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('worker_id', name=op.f('pk_worker'))
    )
    op.create_table('take',
    sa.Column('take_id', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('catalog', sa.String(), nullable=False),
    sa.Column('zone', sa.String(), nullable=False),
    sa.Column('genre', sa.String(), nullable=False),
    sa.Column('track_key', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('title', sa.String(), nullable=False),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('queue', sa.String(), nullable=False),
    sa.Column('bucket', sa.String(), nullable=False),
    sa.Column('duration_ms', sa.BigInteger(), nullable=False),
    sa.Column('message', sa.JSON(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('current', sa.Boolean(), nullable=False),
    sa.Column('alone', sa.Boolean(), nullable=False),
    sa.Column('sent_at_ms', sa.BigInteger(), nullable=True),
    sa.Column('held_by', sa.String(), nullable=True),
    sa.Column('held_at_ms', sa.BigInteger(), nullable=True),
    sa.Column('tries', sa.Integer(), nullable=False),
    sa.Column('losses', sa.Integer(), nullable=False),
    sa.CheckConstraint("state in ('waiting', 'sent', 'accepted', 'rejected', 'failed', 'cancelled')", name=op.f('ck_take_known_state')),
    sa.ForeignKeyConstraint(['run_id'], ['run.run_id'], name=op.f('fk_take_run_id_run')),
    sa.PrimaryKeyConstraint('take_id', name=op.f('pk_take'))
    )
    op.create_index('ix_take_catalog_track_key_number', 'take', ['catalog', 'track_key', 'number'], unique=False)
    op.create_index('ix_take_run_id_state_bucket_take_id', 'take', ['run_id', 'state', 'bucket', 'take_id'], unique=False)

