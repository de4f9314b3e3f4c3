from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from cerebella.runtime.instruments.latency import BURST_80MS, TRACES, LatencyLaw, LatencyTrace, generate

COMMITTED = TRACES / "burst_80ms.json"


def test_the_committed_trace_is_what_its_law_gives_bit_for_bit(tmp_path: Path) -> None:
    trace = generate(BURST_80MS)
    assert LatencyTrace.load(COMMITTED) == trace
    trace.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == COMMITTED.read_bytes()


def test_the_committed_trace_has_the_promised_shape() -> None:
    """80 ms, about 10 %, and 2 % of the requests in bursts of 100 to 400 ms more; enough for 30 minutes at 2 per second."""
    trace = LatencyTrace.load(COMMITTED)
    samples_s = np.asarray(trace.samples_us) / 1e6
    assert len(samples_s) == 5000 > 30 * 60 * 2
    is_slow = samples_s > 0.150
    calm = samples_s[~is_slow]
    assert is_slow.sum() == 100
    assert np.median(calm) == pytest.approx(0.080, rel=0.01)
    assert np.log(calm).std() == pytest.approx(0.1, rel=0.05)
    assert 0.15 < samples_s[is_slow].min() < samples_s[is_slow].max() < 0.52


def test_bursts_come_in_clusters() -> None:
    """Drawn one by one, 100 slow requests among 5000 would stand alone (mean run 1.02)."""
    trace = LatencyTrace.load(COMMITTED)
    runs = [len(list(group)) for is_slow, group in groupby(s > 150_000 for s in trace.samples_us) if is_slow]
    assert 3.0 < np.mean(runs) < 5.0


def test_the_quantiles_in_the_file_are_true() -> None:
    trace = LatencyTrace.load(COMMITTED)
    quantiles_ms = trace.to_dict()["quantiles_ms"]
    assert quantiles_ms["p100"] == max(trace.samples_us) / 1e3
    for name in ("p50", "p95", "p99"):
        expected_us = np.quantile(trace.samples_us, float(name[1:]) / 100, method="inverted_cdf")
        assert quantiles_ms[name] == pytest.approx(expected_us / 1e3)


def test_it_is_a_function_of_the_number_of_the_request() -> None:
    trace = generate(replace(BURST_80MS, num_samples=10))
    assert [trace(number) for number in range(10)] == [sample / 1e6 for sample in trace.samples_us]
    with pytest.raises(ValueError, match=r"requests 0\.\.9; got 10"):
        trace(10)


def test_another_seed_is_another_trace_and_no_spread_is_a_constant() -> None:
    assert generate(replace(BURST_80MS, seed=2)).samples_us != generate(BURST_80MS).samples_us
    constant = generate(LatencyLaw(0, 5, 0.05, 0.0, 0.0, 1.0, 0.0, 0.0))
    assert set(constant.samples_us) == {50_000}


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_samples", 0), ("median_s", 0.0), ("burst_share", 1.0), ("mean_burst_length", 0.5), ("burst_low_s", 1.0)],
)
def test_a_law_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}="):
        replace(BURST_80MS, **{field: value})


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a latency trace"):
        LatencyTrace.load(path)
    path.write_text(COMMITTED.read_text().replace('"num_samples":5000', '"num_samples":6000'))
    with pytest.raises(ValueError, match="must hold 6000 samples"):
        LatencyTrace.load(path)
