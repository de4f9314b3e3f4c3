"""The one question that is open: when it was asked, when it is given up, and how every question ended."""

from collections.abc import Callable, MutableSequence

from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.trace import Counters, Outcome, RequestRecord, keep

_MOST_DOUBLINGS = 5
_MOST_WAIT_TICKS = 30


class RequestBook:
    """Keeps the records. Nothing in it waits for a reply: a request that is not answered is given up.

    Args:
        config: time-out, failures, how much to keep.
        counters: of the executor.
        on_record: told when a request is made and when it ends.
    """

    def __init__(self, config: ExecutorConfig, counters: Counters, on_record: Callable[[RequestRecord], None]) -> None:
        self.records: MutableSequence[RequestRecord] = keep(config.num_kept)
        self.in_flight: RequestRecord | None = None
        self.num_failures = 0
        self.num_discards = 0
        self._num_asked = 0
        self._num_timeouts = 0
        self._wait_until_tick = -1
        self._config = config
        self._counters = counters
        self._on_record = on_record

    @property
    def next_id(self) -> int:
        """Id of the next request."""
        return self._num_asked

    def may_ask(self, tick: int) -> bool:
        """Nothing is open, and enough time has passed since the last failures."""
        return self.in_flight is None and tick >= self._wait_until_tick

    def open(self, record: RequestRecord) -> None:
        """A request was made."""
        self.in_flight = record
        self.records.append(record)
        self._num_asked += 1
        self._counters.num_requests += 1
        self._on_record(record)

    def give_up_if_overdue(self, tick: int, estimated_delay: int) -> bool:
        """Whether the open request was given up now, because its answer is overdue."""
        record = self.in_flight
        if record is None:
            return False
        patience = max(self._config.reply_timeout, 2 * estimated_delay) << min(self._num_timeouts, _MOST_DOUBLINGS)
        if tick - record.observation_tick < patience:
            return False
        self._num_timeouts += 1
        self._end(record, "timed out", f"no reply within {patience} ticks")
        return True

    def reject(self, record: RequestRecord, reason: str, tick: int) -> None:
        """The reply must not be executed. The first failure is followed by a question at once, further ones by a pause."""
        self.num_failures += 1
        self._counters.rejections[reason.split(":")[0]] += 1
        if self.num_failures > 1:
            self._wait_until_tick = tick + min(2 ** min(self.num_failures - 2, 10), _MOST_WAIT_TICKS)
        self._end(record, "rejected", reason)

    def discard(self, reason: str) -> None:
        """Whatever is open is of no use any more; its reply will be ignored."""
        if self.in_flight is not None:
            self._end(self.in_flight, "discarded", reason)

    def discard_late(self, record: RequestRecord) -> None:
        """The reply was sound, and too late to be worth a jump."""
        self.num_discards += 1
        self._num_timeouts = 0
        self._end(record, "discarded", "late")

    def use(self, record: RequestRecord, is_late: bool) -> None:
        """The reply takes over."""
        self.num_failures = self.num_discards = self._num_timeouts = 0
        self._end(record, "late" if is_late else "used")

    def supersede(self, record: RequestRecord) -> None:
        """Its plan was replaced before any row was played."""
        self._counters.outcomes[record.outcome] -= 1
        self._end(record, "superseded")

    def _end(self, record: RequestRecord, outcome: Outcome, reason: str = "") -> None:
        if record is self.in_flight:
            self.in_flight = None
        record.outcome = outcome
        record.reason = reason
        self._counters.outcomes[outcome] += 1
        self._on_record(record)
