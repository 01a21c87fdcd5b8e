"""The backlog keeps the order of arrival, whatever calls take out and put back."""

from __future__ import annotations

from tests.support.makers import a_take
from workers.scheduler.backlog import Backlog
from workers.scheduler.request import EngineCall, Request, TakeReturned


def a_backlog(count: int) -> tuple[Backlog, list[Request]]:
    backlog, requests = Backlog(), [Request(a_take(f"{number:04d}")) for number in range(count)]
    for each in requests:
        backlog.add(each)
    return backlog, requests


def test_requests_put_back_stand_where_they_were():
    backlog, requests = a_backlog(3)
    backlog.take_out(EngineCall("render", requests[:2], is_full=True))
    assert backlog.waiting == requests[2:]
    backlog.put_back(requests[:2])
    assert backlog.waiting == requests


def test_requests_put_back_last_stand_behind_all_others_and_behind_none_that_come_later():
    backlog, requests = a_backlog(3)
    backlog.take_out(EngineCall("render", requests[:2], is_full=True))
    backlog.put_back(requests[:2], last=True)
    newcomer = Request(a_take("0009"))
    backlog.add(newcomer)
    assert backlog.waiting == [requests[2], requests[0], requests[1], newcomer]


def test_a_request_whose_caller_has_its_answer_does_not_wait_again():
    backlog, (answered, other) = a_backlog(2)
    backlog.take_out(EngineCall("plan", [answered, other], is_full=True))
    answered.done.set_exception(TakeReturned())
    backlog.put_back([answered, other])
    assert backlog.waiting == [other]


def test_clearing_returns_the_requests_that_the_planner_has_as_well():
    backlog, requests = a_backlog(3)
    backlog.take_out(EngineCall("plan", requests[:1], is_full=False))
    assert sorted(backlog.clear(), key=lambda each: each.arrival) == requests
    assert (backlog.waiting, backlog.clear()) == ([], [])


def test_only_requests_that_were_alone_with_a_dying_engine_are_suspects():
    backlog, (innocent, suspect) = a_backlog(2)
    suspect.deaths_alone = 1
    assert backlog.remove_suspects() == [suspect]
    assert backlog.waiting == [innocent]
