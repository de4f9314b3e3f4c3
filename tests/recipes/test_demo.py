"""The demo itself, small: the expert instead of a trained policy, one scene per mode."""

import json
from pathlib import Path

import av
import jsonschema
import pytest
from PIL import Image

from cerebella.evaluation.result import SCHEMA_PATH, read_result
from cerebella.recipes.demo import DemoConfig, draw_latency, run_demo


def test_the_demo_writes_everything_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DemoConfig(
        policy="expert", out=tmp_path, latencies_ms=(90.0,), seconds_per_cell=0.0, num_twins=4, execute_horizon=8
    )
    outcome = run_demo(config)
    printed = capsys.readouterr().out
    assert {path.name for path in outcome.paths} == {"report.html", "demo.mp4", "demo.png", "result.json"}
    for path in outcome.paths:
        assert path.parent == tmp_path
        assert str(path) in printed

    result = read_result(tmp_path / "result.json")
    jsonschema.validate(result, json.loads(SCHEMA_PATH.read_text()))
    rows = {row["mode"]: row for row in result["summary"]}
    assert list(rows) == ["sync", "naive", "prefix"]
    assert rows["sync"]["idle_share"] > 0.0
    assert rows["prefix"]["period_error_ms"]["p99"] >= 0.0
    assert all(row["reaction_pairs"]["num_unequal"] == 0 for row in rows.values())
    assert any(row["reaction_ticks"]["p50"] is not None for row in rows.values())
    assert len({row["seed"] for row in result["episodes"]}) == 1

    with av.open(str(tmp_path / "demo.mp4")) as container:
        num_frames = sum(1 for _ in container.decode(video=0))
    assert num_frames == max(row["ticks"] for row in result["episodes"]) + 1 + 14
    with Image.open(tmp_path / "demo.png") as poster:
        assert poster.size[0] > 1000


def test_latencies_are_drawn_around_their_target_and_repeat() -> None:
    config = DemoConfig(latencies_ms=(85.0, 105.0), latency_jitter_ms=5.0)
    first, again = draw_latency(config, 105.0), draw_latency(config, 105.0)
    values = [first(k) for k in range(200)]
    assert values == [again(k) for k in range(200)]
    assert 0.100 <= min(values) < 0.102
    assert 0.108 < max(values) <= 0.110
    assert draw_latency(config, 85.0)(0) != values[0]


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown mode 'async'"):
        DemoConfig(modes=("async",))
    with pytest.raises(ValueError, match="at least one mode"):
        DemoConfig(modes=())
    with pytest.raises(ValueError, match="above 0 ms"):
        DemoConfig(latencies_ms=(3.0,))
    with pytest.raises(FileNotFoundError, match="no policy directory"):
        run_demo(DemoConfig(policy=str(tmp_path / "nowhere"), out=tmp_path))
