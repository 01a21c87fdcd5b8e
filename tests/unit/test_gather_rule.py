"""The rule that makes batches, and how a batch's time is shared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catalog.sidecar import StageTimes
from tests.makers import a_take
from workers.gather import Waiting, next_batch, share_times

waitings = st.lists(
    st.builds(
        lambda slot, duration_s, alone: Waiting(a_take(f"{slot:04d}", duration_s=duration_s), alone),
        st.integers(1, 9999),
        st.sampled_from([10, 20, 30]),
        st.booleans(),
    ),
    max_size=20,
)


@given(waiting=waitings, limit=st.integers(1, 8))
def test_batch_after_batch_loses_nothing_mixes_no_buckets_and_respects_the_limit(waiting, limit):
    left, done = list(waiting), []
    while batch := next_batch(left, lambda bucket: limit):
        assert len(batch) <= limit
        assert len({each.bucket for each in batch}) == 1
        assert len(batch) == 1 or not any(each.alone for each in batch)
        left = [each for each in left if each not in batch]
        done += batch
    assert not left
    assert {id(each) for each in done} == {id(each) for each in waiting}
    assert len(done) == len(waiting)


@given(waiting=waitings.filter(bool), limit=st.integers(1, 8))
def test_the_oldest_take_is_always_in_the_next_batch(waiting, limit):
    assert next_batch(waiting, lambda bucket: limit)[0] is waiting[0]


def test_a_batch_is_as_full_as_the_oldest_takes_bucket_allows():
    waiting = [Waiting(a_take(f"{n:04d}", duration_s=10 if n % 2 else 20)) for n in range(1, 9)]
    assert [each.take.spec.duration_s for each in next_batch(waiting, lambda bucket: 3)] == [10, 10, 10]
    assert len(next_batch(waiting, lambda bucket: 8)) == 4


def test_a_limit_below_one_still_moves():
    assert len(next_batch([Waiting(a_take())], lambda bucket: 0)) == 1


@given(ms=st.tuples(*[st.integers(0, 10**6)] * 4), size=st.integers(1, 9))
def test_shares_of_a_batchs_time_add_up_to_it(ms, size):
    times = StageTimes(plan_ms=ms[0], encode_ms=ms[1], diffuse_ms=ms[2], decode_ms=ms[3])
    shares = share_times(times, size)
    assert sum(share.plan_ms for share in shares) == times.plan_ms
    assert sum(share.engine_ms for share in shares) == times.engine_ms
    assert max(share.diffuse_ms for share in shares) - min(share.diffuse_ms for share in shares) <= 1
