"""The books: rentals, invoices, postings with their entries, months that close, budgets and verdicts"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('budget',
    sa.Column('budget_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('period', sa.String(), nullable=False),
    sa.Column('usd_micros', sa.BigInteger(), nullable=True),
    sa.Column('set_ms', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("scope in ('month', 'catalog', 'run')", name=op.f('ck_budget_known_scope')),
    sa.PrimaryKeyConstraint('budget_id', name=op.f('pk_budget'))
    )
    op.create_table('closed_period',
    sa.Column('period', sa.String(), nullable=False),
    sa.Column('closed_ms', sa.BigInteger(), nullable=False),
    sa.Column('closed_by', sa.String(), nullable=False),
    sa.Column('time_zone', sa.String(), nullable=False),
    sa.Column('high_water_id', sa.BigInteger(), nullable=False),
    sa.Column('entries', sa.BigInteger(), nullable=False),
    sa.Column('control_usd_micros', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('period', name=op.f('pk_closed_period'))
    )
    op.create_table('cost_monthly',
    sa.Column('period', sa.String(), nullable=False),
    sa.Column('applies_to', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('catalog', sa.String(), nullable=False),
    sa.Column('zone', sa.String(), nullable=False),
    sa.Column('genre', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('provider', sa.String(), nullable=False),
    sa.Column('gpu', sa.String(), nullable=False),
    sa.Column('market', sa.String(), nullable=False),
    sa.Column('usd_micros', sa.BigInteger(), nullable=False),
    sa.Column('unpriced_ms', sa.BigInteger(), nullable=False),
    sa.Column('ms', sa.BigInteger(), nullable=False),
    sa.Column('tracks', sa.BigInteger(), nullable=False),
    sa.Column('attempts', sa.BigInteger(), nullable=False),
    sa.Column('audio_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('period', 'applies_to', 'kind', 'category', 'catalog', 'zone', 'genre', 'run_id', 'provider', 'gpu', 'market', name=op.f('pk_cost_monthly'))
    )
    op.create_index('ix_cost_monthly_applies_to', 'cost_monthly', ['applies_to'], unique=False)
    op.create_index('ix_cost_monthly_run_id', 'cost_monthly', ['run_id'], unique=False)
    op.create_table('invoice',
    sa.Column('invoice_id', sa.String(), nullable=False),
    sa.Column('provider', sa.String(), nullable=False),
    sa.Column('number', sa.String(), nullable=False),
    sa.Column('currency', sa.String(), nullable=False),
    sa.Column('usd_per_unit', sa.String(), nullable=False),
    sa.Column('rate_source', sa.String(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('file_name', sa.String(), nullable=False),
    sa.Column('text', sa.String(), nullable=False),
    sa.Column('total_usd_micros', sa.BigInteger(), nullable=False),
    sa.Column('topup_usd_micros', sa.BigInteger(), nullable=False),
    sa.Column('replaces', sa.String(), nullable=True),
    sa.Column('imported_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('invoice_id', name=op.f('pk_invoice'))
    )
    op.create_index('ix_invoice_provider_number', 'invoice', ['provider', 'number'], unique=False)
    op.create_table('posting',
    sa.Column('posting_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('posted_ms', sa.BigInteger(), nullable=False),
    sa.Column('period', sa.String(), nullable=False),
    sa.Column('applies_to', sa.String(), nullable=False),
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('meter', sa.String(), nullable=False),
    sa.Column('rental_id', sa.String(), nullable=True),
    sa.Column('provider', sa.String(), nullable=False),
    sa.Column('gpu', sa.String(), nullable=False),
    sa.Column('market', sa.String(), nullable=False),
    sa.Column('region', sa.String(), nullable=False),
    sa.Column('sku', sa.String(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=False),
    sa.Column('end_ms', sa.BigInteger(), nullable=False),
    sa.Column('usd_micros', sa.BigInteger(), nullable=True),
    sa.Column('rate_usd_micros_per_h', sa.BigInteger(), nullable=True),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('invoice_line_id', sa.String(), nullable=True),
    sa.Column('method', sa.String(), nullable=False),
    sa.Column('digest', sa.String(), nullable=False),
    sa.Column('reverses_id', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("kind in ('billed', 'estimate', 'work')", name=op.f('ck_posting_known_kind')),
    sa.PrimaryKeyConstraint('posting_id', name=op.f('pk_posting')),
    sa.UniqueConstraint('reverses_id', name=op.f('uq_posting_reverses_id'))
    )
    op.create_index(op.f('ix_posting_key'), 'posting', ['key'], unique=False)
    op.create_index('ix_posting_period_rental_id', 'posting', ['period', 'rental_id'], unique=False)
    op.create_table('rental',
    sa.Column('rental_id', sa.String(), nullable=False),
    sa.Column('provider', sa.String(), nullable=False),
    sa.Column('external_id', sa.String(), nullable=False),
    sa.Column('gpu', sa.String(), nullable=False),
    sa.Column('gpu_count', sa.Integer(), nullable=False),
    sa.Column('market', sa.String(), nullable=False),
    sa.Column('region', sa.String(), nullable=False),
    sa.Column('account', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=True),
    sa.Column('rate_usd_micros_per_h', sa.BigInteger(), nullable=True),
    sa.Column('billed_start_ms', sa.BigInteger(), nullable=True),
    sa.Column('billed_end_ms', sa.BigInteger(), nullable=True),
    sa.Column('settled', sa.Boolean(), nullable=False),
    sa.CheckConstraint("market in ('on_demand', 'spot')", name=op.f('ck_rental_known_market')),
    sa.PrimaryKeyConstraint('rental_id', name=op.f('pk_rental'))
    )
    op.create_index(op.f('ix_rental_settled'), 'rental', ['settled'], unique=False)
    op.create_table('standing',
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('posting_id', sa.BigInteger(), nullable=False),
    sa.Column('rental_id', sa.String(), nullable=True),
    sa.Column('digest', sa.String(), nullable=False),
    sa.Column('method', sa.String(), nullable=False),
    sa.Column('is_priced', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_standing'))
    )
    op.create_index(op.f('ix_standing_rental_id'), 'standing', ['rental_id'], unique=False)
    op.create_table('verdict',
    sa.Column('verdict_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('take_id', sa.String(), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('at_ms', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("outcome in ('accepted', 'rejected')", name=op.f('ck_verdict_known_outcome')),
    sa.PrimaryKeyConstraint('verdict_id', name=op.f('pk_verdict'))
    )
    op.create_index(op.f('ix_verdict_record_id'), 'verdict', ['record_id'], unique=False)
    op.create_table('cost_entry',
    sa.Column('entry_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('posting_id', sa.BigInteger(), nullable=False),
    sa.Column('period', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('catalog', sa.String(), nullable=False),
    sa.Column('zone', sa.String(), nullable=False),
    sa.Column('genre', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('usd_micros', sa.BigInteger(), nullable=True),
    sa.Column('ms', sa.BigInteger(), nullable=False),
    sa.Column('tracks', sa.Integer(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('audio_ms', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['posting_id'], ['posting.posting_id'], name=op.f('fk_cost_entry_posting_id_posting')),
    sa.PrimaryKeyConstraint('entry_id', name=op.f('pk_cost_entry'))
    )
    op.create_index('ix_cost_entry_period_entry_id', 'cost_entry', ['period', 'entry_id'], unique=False)
    op.create_index(op.f('ix_cost_entry_posting_id'), 'cost_entry', ['posting_id'], unique=False)
    op.create_table('invoice_line',
    sa.Column('line_id', sa.String(), nullable=False),
    sa.Column('invoice_id', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('provider', sa.String(), nullable=False),
    sa.Column('meter', sa.String(), nullable=False),
    sa.Column('external_id', sa.String(), nullable=False),
    sa.Column('sku', sa.String(), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('start_ms', sa.BigInteger(), nullable=True),
    sa.Column('end_ms', sa.BigInteger(), nullable=True),
    sa.Column('quantity', sa.String(), nullable=False),
    sa.Column('unit', sa.String(), nullable=False),
    sa.Column('unit_price', sa.String(), nullable=False),
    sa.Column('usd_micros', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("meter in ('gpu', 'disk', 'egress', 'credit', 'tax', 'topup')", name=op.f('ck_invoice_line_known_meter')),
    sa.ForeignKeyConstraint(['invoice_id'], ['invoice.invoice_id'], name=op.f('fk_invoice_line_invoice_id_invoice')),
    sa.PrimaryKeyConstraint('line_id', name=op.f('pk_invoice_line'))
    )
    op.create_index(op.f('ix_invoice_line_invoice_id'), 'invoice_line', ['invoice_id'], unique=False)
    op.create_index('ix_invoice_line_provider_external_id', 'invoice_line', ['provider', 'external_id'], unique=False)
    op.add_column('worker', sa.Column('rental_id', sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column('worker', sa.Column('lane', sa.String(), server_default=sa.text("''"), nullable=False))
    op.create_index(op.f('ix_worker_rental_id'), 'worker', ['rental_id'], unique=False)

    # Every worker from before is a rental of its own; the reports post it when they are asked for.
    op.execute("update worker set rental_id = 'local/' || worker_id")
    op.execute(
        "insert into rental (rental_id, provider, external_id, gpu, gpu_count, market, region, account, settled) "
        "select rental_id, 'local', worker_id, gpu, 1, 'on_demand', '', '', false from worker"
    )
