"""A whole race at the smallest size: every column is a measurement, and parity stands beside it."""

import json

import pytest
import torch

from bench.measure import contenders
from bench.measure.counting import count_operations, peak_bytes, weight_bytes
from bench.measure.request import Request
from bench.measure.roofline import Ceilings
from bench.measure.rows import NULL, REFERENCE, race, reference_actions
from bench.measure.table import table
from bench.measure.timing import Rounds
from cerebella.models.vla import VLA


def test_a_race(model: VLA, request_64: Request) -> None:
    field = [*contenders.usual(model), contenders.engine(model)]
    expected = reference_actions(model, request_64)
    rows = race(field, request_64, expected, model.config, Ceilings(1e11, 2e10), Rounds(3, warm_ups=1))
    assert [(row.name, row.kind) for row in rows] == [
        (REFERENCE, "full"),
        (NULL, "full"),
        ("readable model", "full"),
        ("engine", "full"),
        (REFERENCE, "re-plan"),
        ("engine", "re-plan"),
    ]
    for row in rows:
        assert row.max_abs < 1e-4
        assert row.cosine > 0.9999
        assert row.cpu_ms > 0
        assert row.num_operations is not None
        assert row.fraction == pytest.approx(row.limit_ms / row.primary_ms)
    by_name = {(row.name, row.kind): row for row in rows}
    peer, engine = by_name[REFERENCE, "full"], by_name["engine", "full"]
    assert peer.ratio["median"] == pytest.approx(1.0)
    assert peer.num_operations is not None
    assert engine.num_operations is not None
    assert engine.num_operations < 0.6 * peer.num_operations
    assert by_name["engine", "re-plan"].limit_ms < engine.limit_ms
    assert by_name["engine", "re-plan"].full_over_replan is not None
    assert json.loads(json.dumps([row.to_json() for row in rows]))[3]["name"] == "engine"
    assert len(table("title", rows).splitlines()) == 8


def test_operations_are_counted_without_views() -> None:
    x = torch.ones(4, 4)
    assert count_operations(lambda: x.view(16).add(1).mul(2)) == 2


def test_peak_memory_is_what_is_held_at_a_time() -> None:
    def run() -> None:
        for _ in range(3):
            first = torch.ones(1000, 250)
            second = first + 1
            del first, second

    assert peak_bytes(run) == pytest.approx(2 * 1_000_000, rel=0.01)


def test_shared_weights_count_once(model: VLA) -> None:
    assert weight_bytes(model, model) == weight_bytes(model)
    assert weight_bytes(model) == pytest.approx(4 * sum(p.numel() for p in model.parameters()), rel=0.01)
