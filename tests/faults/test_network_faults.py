"""Messages that are lost, repeated, late, out of order, or mangled on their way between the executor and the real server."""

import pytest

from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.fault_rules import Rule
from cerebella.serving.remote_transport import RemoteTransport

from .harness import Course, nothing, recovered, running

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def run_with(transport: RemoteTransport, proxy: FaultProxy, *rules: Rule) -> Course:
    """Run well, meet the faults, run well again (looked at from a second after them)."""

    def were_hit(_: Course) -> bool:
        return all(proxy.num_hits[rule.fault, rule.direction] >= (rule.count or 1) for rule in rules)

    course = Course(transport, [(running, lambda: proxy.set_rules(*rules)), (were_hit, nothing), (recovered, nothing)])
    course.run()
    return course


def test_nothing_goes_wrong_without_faults(transport: RemoteTransport, proxy: FaultProxy) -> None:
    course = run_with(transport, proxy)
    assert course.executor.counters.num_rejected == 0
    assert course.executor.counters.outcomes["timed out"] == 0
    assert transport.counts.num_losses == 0


@pytest.mark.parametrize("direction", ["to client", "to server"], ids=["f5 reply lost", "f6 request lost"])
def test_f5_f6_a_lost_message_is_asked_again(transport: RemoteTransport, proxy: FaultProxy, direction) -> None:
    course = run_with(transport, proxy, Rule("drop", direction, count=1))
    requests = course.executor.requests
    lost = next(request for request in requests if request.outcome == "timed out")
    following = requests[lost.id + 1]
    assert following.observation_tick > lost.observation_tick
    assert following.outcome in ("used", "late", "in flight")
    assert transport.counts.num_losses == 0


def test_f7_duplicates_are_ignored_and_counted(transport: RemoteTransport, proxy: FaultProxy) -> None:
    course = run_with(transport, proxy, Rule("duplicate", "to client", count=3))
    assert transport.counts.num_unknown == 3
    assert course.executor.counters.num_rejected == 0


def test_f7_a_reply_behind_its_successor_is_ignored_and_counted(transport: RemoteTransport, proxy: FaultProxy) -> None:
    course = run_with(transport, proxy, Rule("reorder", "to client", count=1))
    assert course.executor.counters.outcomes["timed out"] >= 1
    assert course.executor.counters.num_ignored_replies + transport.counts.num_late >= 1


def test_f7_replies_more_than_a_second_late(transport: RemoteTransport, proxy: FaultProxy) -> None:
    """The plan runs out: a stop within the limits, and on again when the network is quick again."""
    course = run_with(transport, proxy, Rule("delay", "to client", count=2, seconds=1.6))
    assert course.executor.counters.outcomes["timed out"] >= 1
    assert course.executor.counters.num_ignored_replies + transport.counts.num_late >= 1
    assert course.states()[-1] == "run"


@pytest.mark.parametrize(
    "rule",
    [
        Rule("truncate", "to client", count=1, num_bytes=100),
        Rule("truncate", "to client", count=1, num_bytes=0),
        Rule("corrupt", "to client", count=1, num_bytes=200),
        Rule("oversize", "to client", count=1, num_bytes=1 << 20),
        Rule("oversize", "to client", count=1, num_bytes=80 << 20),
        Rule("truncate", "to server", count=1, num_bytes=40),
        Rule("corrupt", "to server", count=1, num_bytes=200),
        Rule("oversize", "to server", count=1, num_bytes=1 << 20),
        Rule("oversize", "to server", count=1, num_bytes=80 << 20),
    ],
    ids=lambda rule: f"{rule.fault} {rule.num_bytes} {rule.direction}",
)
def test_f8_what_is_mangled_is_not_played(transport: RemoteTransport, proxy: FaultProxy, rule: Rule) -> None:
    course = run_with(transport, proxy, rule)
    assert course.executor.counters.num_rejected + course.executor.counters.outcomes["timed out"] >= 1


@pytest.mark.parametrize("fault", ["reset", "close"])
def test_a_cut_connection_is_made_anew(transport: RemoteTransport, proxy: FaultProxy, fault) -> None:
    run_with(transport, proxy, Rule(fault, "to client", count=1))
    assert (transport.counts.num_losses, transport.counts.num_connections) == (1, 2)
    assert transport.counts.num_restarts == 0


def test_a_half_open_connection_is_found_by_the_ping(transport: RemoteTransport, proxy: FaultProxy) -> None:
    run_with(transport, proxy, Rule("half open", "to client", count=1))
    assert (transport.counts.num_losses, transport.counts.num_connections) == (1, 2)


def test_a_bad_network_for_long(transport: RemoteTransport, proxy: FaultProxy) -> None:
    """All at once, at random, for 200 commands: always one command per tick, and well again afterwards.

    A lost first frame costs the longest: seconds, until the server says beside the connection that it is warm.
    """
    rules = [
        Rule("drop", "to client", 0.1),
        Rule("drop", "to server", 0.1),
        Rule("duplicate", "to client", 0.1),
        Rule("delay", "to client", 0.2, seconds=0.15),
        Rule("truncate", "to client", 0.05, num_bytes=50),
        Rule("truncate", "to server", 0.05, num_bytes=30),
        Rule("reset", "to client", 0.02),
    ]
    steps = [
        (running, lambda: proxy.set_rules(*rules)),
        (lambda course: course.since(0) >= 200, lambda: proxy.set_rules()),
        (running, nothing),
    ]
    course = Course(transport, steps)
    course.run()
