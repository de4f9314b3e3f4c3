"""A sink that keeps the events."""

from cerebella.interfaces import Reply
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.types import Observation


class EventSink:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.num_others = 0

    def observation(self, observation: Observation, now_s: float) -> None:
        self.num_others += 1

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        self.num_others += 1

    def tick(self, record: TickRecord) -> None:
        self.num_others += 1

    def request(self, record: RequestRecord) -> None:
        self.num_others += 1

    def event(self, event: Event) -> None:
        self.events.append(event)
