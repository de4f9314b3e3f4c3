"""What a Prometheus server reads."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cerebella.serving.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.text())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def test_the_text_has_every_figure() -> None:
    metrics = Metrics()
    metrics.watch(lambda: 3, lambda: True)
    for milliseconds in range(1, 101):
        metrics.request("openpi", "answered", milliseconds / 1e3, is_late=milliseconds > 98)
    metrics.request("vla_eval", "superseded", 0.5)
    metrics.batch(4, 0.02)
    metrics.batch(2, 0.01)
    metrics.rejected("openpi", "schema")
    metrics.connection("openpi", +1)
    metrics.connection("openpi", +1)
    metrics.connection("openpi", -1)
    metrics.asked("a")
    metrics.asked("b")
    metrics.asked("a")
    found = samples(metrics)
    assert found["cerebella_requests_total", ("openpi", "answered")] == 100
    assert found["cerebella_requests_total", ("vla_eval", "superseded")] == 1
    assert found["cerebella_deadline_misses_total", ("openpi",)] == 2
    assert found["cerebella_rejected_messages_total", ("openpi", "schema")] == 1
    assert found["cerebella_connections", ("openpi",)] == 1
    assert found["cerebella_sessions", ()] == 2
    assert found["cerebella_queue_length", ()] == 3
    assert found["cerebella_ready", ()] == 1
    assert found["cerebella_batch_size_sum", ()] == 6
    assert found["cerebella_inference_seconds_count", ()] == 2
    assert found["cerebella_request_seconds_count", ("openpi",)] == 100
    expected = np.quantile(np.arange(1, 101) / 1e3, [0.5, 0.95, 0.99])
    quantiles = [found["cerebella_latency_seconds", (name,)] for name in ("0.5", "0.95", "0.99")]
    assert quantiles == pytest.approx(expected)


def test_quantiles_are_of_the_last_requests_only() -> None:
    metrics = Metrics()
    assert metrics.latency_quantiles_s() == {}
    metrics.request("openpi", "answered", 100.0)
    for _ in range(1000):
        metrics.request("openpi", "answered", 0.001)
    assert metrics.latency_quantiles_s()[0.99] == pytest.approx(0.001)


def test_servers_do_not_share_counters() -> None:
    first, second = Metrics(), Metrics()
    first.request("openpi", "answered", 0.001)
    assert ("cerebella_requests_total", ("openpi", "answered")) not in samples(second)


def test_sessions_are_bounded() -> None:
    metrics = Metrics()
    for number in range(10_000):
        metrics.asked(str(number))
    assert metrics.num_sessions() == 4096
