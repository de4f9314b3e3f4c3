"""Bookkeeping of requests on their way."""

from cerebella.interfaces import Request
from cerebella.serving.outstanding import Outstanding, Sent

from .gate import NO_PREFIX, observed


def request(number: int) -> Request:
    return Request(number, observed(number), NO_PREFIX, 0)


def test_an_answer_belongs_to_its_request_once() -> None:
    outstanding = Outstanding(4)
    outstanding.add(10, request(1))
    assert outstanding.is_open(10)
    assert outstanding.find(10) == Sent(1, 1, 0)
    assert not outstanding.is_open(10)
    assert outstanding.find(10) is None  # a duplicate
    assert outstanding.find("10") is None
    assert outstanding.find(None) is None
    assert outstanding.counts.num_unknown == 3
    assert not outstanding.replies


def test_a_late_answer_is_still_recognised() -> None:
    outstanding = Outstanding(4)
    outstanding.add(10, request(1))
    outstanding.give_up(10, "no answer")
    outstanding.give_up(10, "no answer")
    assert [reply.error for reply in outstanding.replies] == ["no answer"]
    assert outstanding.find(10) == Sent(1, 1, 0)
    assert outstanding.counts.num_late == 1
    assert outstanding.find(10) is None


def test_only_so_many_are_on_their_way_and_the_oldest_is_given_up() -> None:
    outstanding = Outstanding(2)
    for seq in range(3):
        outstanding.add(seq, request(seq))
    assert [(reply.request_id, reply.error) for reply in outstanding.replies] == [
        (0, "given up: 2 newer requests are on their way")
    ]
    assert outstanding.counts.num_superseded == 1
    assert outstanding.find(0) == Sent(0, 0, 0)


def test_a_lost_connection_ends_all_and_forgets_the_past() -> None:
    outstanding = Outstanding(4)
    for seq in range(3):
        outstanding.add(seq, request(seq))
    outstanding.give_up(0, "no answer")
    outstanding.give_up_all("lost")
    assert [(reply.request_id, reply.error) for reply in outstanding.replies] == [
        (0, "no answer"),
        (1, "lost"),
        (2, "lost"),
    ]
    assert outstanding.find(0) is None
    assert outstanding.find(1) is None


def test_memory_is_bounded() -> None:
    outstanding = Outstanding(4)
    for seq in range(10_000):
        outstanding.add(seq, request(seq))
    assert len(outstanding.replies) == 256
    assert outstanding.counts.num_dropped == 10_000 - 4 - 256
    assert sum(outstanding.find(seq) is not None for seq in range(10_000)) == 4 + 64
