"""Whatever lies on its queue, a worker refuses it in a line and renders the next take."""

from __future__ import annotations

import base64
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import OutdatedError
from catalog.logins import RECORD_QUEUE
from catalog.messages import (
    RECORD_BYTES_MAX,
    RENDER_BYTES_MAX,
    AttemptMade,
    Heartbeat,
    RenderMessage,
    TakesReturned,
    WorkerStopped,
)
from catalog.queues import KEY_PREFIX, queue_of
from catalog.track import Take
from orchestrator.ledger.work import Outgoing
from tests.contract.test_worker import Farm, stop
from tests.support.makers import a_message, a_take, takes

GOOD, ASKED = a_take("0001"), a_take("0002")
QUEUE = queue_of(GOOD.spec)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


class Dark(Farm):
    """A farm on whose queue a stranger writes."""

    def put(self, raw: str | bytes, queue: str = QUEUE) -> None:
        with self.broker._client() as (_, client):
            client.lpush(queue, raw)

    def envelope(self, take: Take = ASKED) -> dict[str, Any]:
        """A good message, as it lies on the queue."""
        self.broker.send([Outgoing(QUEUE, a_message(take))])
        with self.broker._client() as (_, client):
            return json.loads(client.rpop(QUEUE))

    def with_contents(self, message: dict[str, Any]) -> str:
        """A good envelope around a message that is not."""
        envelope = self.envelope()
        body = json.loads(base64.b64decode(envelope["body"]))
        body[1]["message"] |= message
        return json.dumps({**envelope, "body": base64.b64encode(json.dumps(body).encode()).decode()})


@pytest.fixture
def farm(broker_url: str, tmp_path: Path) -> Iterator[Dark]:
    farm = Dark(broker_url, tmp_path)
    yield farm
    farm.close()


def renders_all_the_same(farm: Dark) -> str:
    """A good take, sent after what is on the queue, is rendered; what the worker's log says by then."""
    farm.send([GOOD])
    worker = farm.start_worker()
    farm.wait(lambda: (GOOD.id, "accepted") in farm.outcomes())
    errors = stop(worker)
    assert farm.unacknowledged() == 0
    assert farm.broker.lengths([QUEUE]) == {QUEUE: 0}
    return errors


def test_what_is_no_order_to_render_is_dropped(farm, tmp_path):
    bomb = tmp_path / "unpickled"
    envelope = farm.envelope()
    pickled = base64.b64encode(pickle.dumps(Bomb(bomb))).decode()
    body = json.loads(base64.b64decode(envelope["body"]))

    def with_body(changed: Any) -> str:
        return json.dumps({**envelope, "body": base64.b64encode(json.dumps(changed).encode()).decode()})

    def with_headers(**changed: Any) -> str:
        return json.dumps({**envelope, "headers": {**envelope["headers"], **changed}})

    strange: list[str | bytes] = [
        b"\x80\x04garbage\xff",
        b"",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({**envelope, "body": "no base64 at all"}),
        json.dumps({**envelope, "body": base64.b64encode(b"[" * 100_000).decode()}),
        json.dumps({**envelope, "headers": None}),
        json.dumps({**envelope, "properties": {}}),
        json.dumps(
            {
                **envelope,
                "content-type": "application/x-python-serialize",
                "content-encoding": "binary",
                "body": pickled,
            }
        ),
        json.dumps({**envelope, "content-type": "application/x-yaml"}),
        with_headers(task="celery.map"),
        with_headers(task="os.system"),
        with_headers(compression="application/x-gzip"),
        with_headers(eta="2030-01-01T00:00:00"),
        with_body([[], {"message": body[1]["message"]}, {"callbacks": [{"task": "celery.map"}]}]),
        with_body([["a positional argument"], {}, {}]),
        with_body([[], {"message": body[1]["message"], "other": 1}, {}]),
        json.dumps({**envelope, "properties": {**envelope["properties"], "delivery_info": {}}}),
        "x" * (8 * RENDER_BYTES_MAX),
    ]
    for each in strange:
        farm.put(each)
    errors = renders_all_the_same(farm)
    assert errors.count("was dropped") == len(strange)
    assert farm.outcomes() == [(GOOD.id, "accepted")]
    assert not bomb.exists()
    assert max(map(len, errors.splitlines())) < 400  # what a stranger wrote is not repeated


def test_headers_that_celery_would_stumble_over_are_written_anew(farm):
    envelope = farm.envelope()
    odd = {"task": "tunemill.render", "id": 7, "timelimit": "soon", "retries": "many", "group": [1], "stamps": 3}
    farm.put(json.dumps({**envelope, "headers": odd}))
    renders_all_the_same(farm)
    assert farm.outcomes() == [(GOOD.id, "accepted"), (ASKED.id, "accepted")]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"take": {"id": "nonsense"}}, "cannot be read"),
        ({"alone": "maybe", "surprise": 1}, "cannot be read"),
        ({"surprise": "x" * (RENDER_BYTES_MAX + 1)}, "256 KiB"),
        ({"surprise": [[]] * (RENDER_BYTES_MAX + 1)}, "dropped"),
    ],
)
def test_an_order_that_cannot_be_read_ends_its_take_with_the_reason(farm, message, reason):
    farm.put(farm.with_contents(message))
    errors = renders_all_the_same(farm)
    if reason == "dropped":
        assert "was dropped" in errors
        return
    (refused,) = [made for made in farm.of(AttemptMade) if made.outcome == "failed"]
    assert refused.take_id == ASKED.id
    assert reason in refused.reasons[0]
    assert refused.retry


def test_what_was_delivered_long_ago_to_a_worker_that_is_gone_is_forgotten(farm):
    with farm.broker._client() as (_, client):
        client.hset("unacked", mapping={"old": "whatever a stranger wrote", "young": "somebody's"})
        client.zadd("unacked_index", {"old": 1, "young": time.time()})
    worker = farm.start_worker()
    farm.wait(lambda: farm.of(Heartbeat))
    farm.wait(lambda: farm.unacknowledged() == 1)
    stop(worker)
    assert farm.broker.lengths([QUEUE]) == {QUEUE: 0}


def test_the_largest_take_we_write_is_far_from_the_limit(farm):
    spec = GOOD.spec.model_copy(update={"lyrics": "la " * 4096})
    message = RenderMessage(run_id="r" * 32, take=GOOD.track.model_copy(update={"spec": spec}).take())
    assert len(message.model_dump_json()) * 10 < RENDER_BYTES_MAX
    names = Heartbeat(worker_id="w" * 32, held=[take.id for take in takes(10)] * 1000)
    assert len(names.model_dump_json()) * 10 < RECORD_BYTES_MAX
    assert KEY_PREFIX + RECORD_QUEUE == "tunemill:records"  # as infra/valkey/users.acl names it


def with_a_later_knob() -> dict[str, Any]:
    take = a_message(ASKED).model_dump(mode="json")["take"]
    take["track"]["spec"]["diffusion"]["guidance"] = 2.5
    return {"take": take}


@pytest.mark.parametrize("newer", [{"v": 99}, {"surprise": 1}, with_a_later_knob()])
def test_a_worker_that_is_too_old_for_an_order_gives_it_back_and_ends_with_a_code_of_its_own(farm, newer):
    order = farm.with_contents(newer)
    worker = farm.start_worker()
    farm.send([GOOD])
    farm.wait(lambda: (GOOD.id, "accepted") in farm.outcomes())
    farm.put(order)
    assert worker.wait(timeout=60) == OutdatedError.exit_code == 43
    assert farm.outcomes() == [(GOOD.id, "accepted")], "no failure is on the books"
    assert [each.take_ids for each in farm.of(TakesReturned)] == [[ASKED.id]]
    assert any(words in farm.of(WorkerStopped)[0].reason for words in ("does not know", "version 99"))
    # On the queue it would end one worker after the other; the control side sends it again, if it has sent it.
    assert farm.broker.lengths([QUEUE]) == {QUEUE: 0}
