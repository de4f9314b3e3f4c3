"""What was served, in Prometheus' text format. Every server has its own registry."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cerebella.serving.errors import Outcome, Reason

QUANTILES = (0.5, 0.95, 0.99)
_WINDOW = 1000
_SESSION_S = 60.0
_MAX_SESSIONS = 4096
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


class Metrics:
    """Counters of one server. `batch` may be called from the inference thread; the rest belongs to the event loop."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        registry = self.registry
        self._requests = Counter(
            "cerebella_requests", "Requests by how they ended", ["dialect", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "cerebella_request_seconds",
            "From a whole message to its answer",
            ["dialect"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._infer_seconds = Histogram(
            "cerebella_inference_seconds", "One inference of a batch", buckets=_SECONDS, registry=registry
        )
        self._batch_size = Histogram(
            "cerebella_batch_size", "Requests per inference", buckets=_SIZES, registry=registry
        )
        self._misses = Counter(
            "cerebella_deadline_misses", "Requests that ended after their deadline", ["dialect"], registry=registry
        )
        self._rejected = Counter(
            "cerebella_rejected_messages", "Messages and connections refused", ["dialect", "reason"], registry=registry
        )
        self._connections = Gauge("cerebella_connections", "Open connections", ["dialect"], registry=registry)
        self._queue = Gauge("cerebella_queue_length", "Requests that wait for the policy", registry=registry)
        self._ready = Gauge("cerebella_ready", "1 if warm and not shutting down", registry=registry)
        self._sessions = Gauge("cerebella_sessions", f"Sessions that asked within {_SESSION_S:g} s", registry=registry)
        self._sessions.set_function(self.num_sessions)
        self._latencies_s: deque[float] = deque(maxlen=_WINDOW)
        self._asked_s: OrderedDict[str, float] = OrderedDict()
        registry.register(_Quantiles(self.latency_quantiles_s))

    def watch(self, queue_length: Callable[[], int], is_ready: Callable[[], bool]) -> None:
        """Where to read what changes by itself."""
        self._queue.set_function(queue_length)
        self._ready.set_function(is_ready)

    def asked(self, session: str) -> None:
        """A session sent a request."""
        self._asked_s[session] = time.monotonic()
        self._asked_s.move_to_end(session)
        if len(self._asked_s) > _MAX_SESSIONS:
            self._asked_s.popitem(last=False)

    def request(self, dialect: str, outcome: Outcome, duration_s: float, is_late: bool = False) -> None:
        """A request has ended."""
        self._requests.labels(dialect, outcome).inc()
        if is_late:
            self._misses.labels(dialect).inc()
        if outcome == "answered":
            self._seconds.labels(dialect).observe(duration_s)
            self._latencies_s.append(duration_s)

    def batch(self, size: int, duration_s: float) -> None:
        """One inference is done."""
        self._batch_size.observe(size)
        self._infer_seconds.observe(duration_s)

    def rejected(self, dialect: str, reason: Reason) -> None:
        """A message or a connection was refused."""
        self._rejected.labels(dialect, reason).inc()

    def connection(self, dialect: str, change: int) -> None:
        """A connection was opened (+1) or has ended (-1)."""
        self._connections.labels(dialect).inc(change)

    def num_sessions(self) -> int:
        """Sessions that asked within the last minute."""
        horizon_s = time.monotonic() - _SESSION_S
        while self._asked_s and next(iter(self._asked_s.values())) < horizon_s:
            self._asked_s.popitem(last=False)
        return len(self._asked_s)

    def latency_quantiles_s(self) -> dict[float, float]:
        """p50, p95 and p99 of the last 1000 answered requests, seconds; empty before the first."""
        if not self._latencies_s:
            return {}
        values = np.quantile(np.array(self._latencies_s), QUANTILES)
        return {quantile: float(value) for quantile, value in zip(QUANTILES, values, strict=True)}

    def text(self) -> str:
        """Prometheus' text format."""
        return generate_latest(self.registry).decode()


class _Quantiles(Collector):
    """Quantiles are computed when somebody asks for them."""

    def __init__(self, quantiles_s: Callable[[], dict[float, float]]) -> None:
        self._quantiles_s = quantiles_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge per quantile."""
        family = GaugeMetricFamily(
            "cerebella_latency_seconds", f"Of the last {_WINDOW} answered requests", labels=["quantile"]
        )
        for quantile, value in self._quantiles_s().items():
            family.add_metric([f"{quantile:g}"], value)
        yield family
