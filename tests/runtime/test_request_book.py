"""One open question: when it is given up, when the next may be asked, and how every question ended."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.request_book import RequestBook
from cerebella.runtime.trace import Counters, Outcome, RequestRecord

TIMEOUT = 10


def make_book(**options: int) -> tuple[RequestBook, Counters, list[tuple[int, Outcome]]]:
    counters, told = Counters(), []
    config = ExecutorConfig("naive", 4, reply_timeout=TIMEOUT, **options)
    return RequestBook(config, counters, lambda record: told.append((record.id, record.outcome))), counters, told


def ask(book: RequestBook, tick: int) -> RequestRecord:
    record = RequestRecord(book.next_id, tick, 0.0, np.zeros((0, 2), dtype=np.float32), 0)
    book.open(record)
    return record


def wait_until_given_up(book: RequestBook, tick: int, estimated_delay: int = 1) -> int:
    ask(book, tick)
    for later in range(tick, tick + 100_000):
        if book.give_up_if_overdue(later, estimated_delay):
            return later - tick
    raise AssertionError("never given up")


def test_one_question_at_a_time() -> None:
    book, counters, told = make_book()
    assert book.may_ask(0)
    record = ask(book, 0)
    assert not book.may_ask(1)
    assert book.next_id == 1
    book.use(record, is_late=False)
    assert book.may_ask(1)
    assert (counters.num_requests, counters.outcomes["used"]) == (1, 1)
    assert told == [(0, "in flight"), (0, "used")]


def test_patience_doubles_and_stays_bounded() -> None:
    """A slow policy is heard in the end; a dead one is still asked."""
    book, counters, _ = make_book()
    waits = [wait_until_given_up(book, 1000 * i) for i in range(9)]
    assert waits == [10, 20, 40, 80, 160, 320, 320, 320, 320]
    assert counters.outcomes["timed out"] == 9
    assert book.records[0].reason == "no reply within 10 ticks"


def test_patience_is_at_least_twice_the_estimate() -> None:
    book, _, _ = make_book()
    assert wait_until_given_up(book, 0, estimated_delay=12) == 24


def test_an_answer_ends_the_doubling_be_it_used_or_thrown_away() -> None:
    for end in ("use", "discard"):
        book, _, _ = make_book()
        wait_until_given_up(book, 0)
        wait_until_given_up(book, 100)
        record = ask(book, 200)
        if end == "use":
            book.use(record, is_late=True)
        else:
            book.discard_late(record)
        assert wait_until_given_up(book, 300) == TIMEOUT


def test_nothing_open_is_never_overdue() -> None:
    book, counters, _ = make_book()
    assert not book.give_up_if_overdue(10**6, 1)
    book.discard("pause")
    assert not counters.outcomes


def test_failures_are_asked_again_at_once_and_then_ever_later() -> None:
    book, counters, _ = make_book()
    tick, pauses = 0, []
    for _ in range(12):
        book.reject(ask(book, tick), "inference failed: OSError: gone", tick)
        first = next(later for later in range(tick, tick + 1000) if book.may_ask(later))
        pauses.append(first - tick)
        tick = first
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]
    assert counters.rejections == {"inference failed": 12}
    assert book.num_failures == 12
    book.use(ask(book, tick), is_late=False)
    assert book.num_failures == 0
    book.reject(ask(book, tick + 1), "prefix changed: row 2", tick + 1)
    assert book.may_ask(tick + 1), "after a success the first failure is followed by a question at once"


def test_a_plan_that_never_ran_counts_as_superseded_only() -> None:
    book, counters, _ = make_book()
    record = ask(book, 0)
    book.use(record, is_late=True)
    other = ask(book, 0)
    book.supersede(record)
    book.use(other, is_late=False)
    assert {key: value for key, value in counters.outcomes.items() if value} == {"superseded": 1, "used": 1}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["use", "late", "reject", "discard", "too late", "wait"]), st.integers(1, 50)))
)
def test_e9_every_question_has_one_end_and_the_sums_agree(events: list[tuple[str, int]]) -> None:
    book, counters, told = make_book(num_kept=5)
    tick = 0
    for event, ticks in events:
        tick += ticks
        book.give_up_if_overdue(tick, 2)
        if book.may_ask(tick):
            ask(book, tick)
        record = book.in_flight
        if record is None or event == "wait":
            continue
        if event in ("use", "late"):
            book.use(record, is_late=event == "late")
        elif event == "reject":
            book.reject(record, "inference failed: x", tick)
        elif event == "too late":
            book.discard_late(record)
        else:
            book.discard("pause")
    num_open = book.in_flight is not None
    assert sum(counters.outcomes.values()) + num_open == counters.num_requests == book.next_id
    assert len(told) == 2 * counters.num_requests - num_open
    assert len(book.records) <= 5
    assert counters.outcomes["rejected"] == sum(counters.rejections.values())
