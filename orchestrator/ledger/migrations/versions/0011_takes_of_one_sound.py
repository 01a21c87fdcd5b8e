"""The hash that is equal for takes that differ in finishing alone, so that one's file can be made from another's"""

import json

import sqlalchemy as sa
from alembic import op
from pydantic import ValidationError

from catalog.track import Take

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None
_AT_ONCE = 1_000


def upgrade() -> None:
    op.add_column('take', sa.Column('sound_id', sa.String(), server_default=sa.text("''"), nullable=False))
    take = sa.table('take', sa.column('take_id', sa.String), sa.column('sound_id', sa.String), sa.column('message', sa.JSON))
    connection = op.get_bind()
    of_take = sa.update(take).where(take.c.take_id == sa.bindparam('of_take')).values(sound_id=sa.bindparam('to_sound'))
    after = ''
    while True:
        page = sa.select(take.c.take_id, take.c.message).where(take.c.take_id > after).order_by(take.c.take_id)
        rows = connection.execute(page.limit(_AT_ONCE)).all()
        found = [{'of_take': take_id, 'to_sound': sound_id} for take_id, message in rows if (sound_id := _sound_id(message))]
        if found:
            connection.execute(of_take, found)
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1].take_id


def _sound_id(message: object) -> str:
    """Of a take that this version cannot read: nothing is the same as that."""
    try:
        return Take.model_validate(json.loads(message) if isinstance(message, str) else message).sound_id
    except (ValidationError, ValueError):
        return ''
