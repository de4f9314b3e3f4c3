import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from cerebella.training.logs import Curve, forget_lost_steps, open_logs
from tests.training.tiny import ALL_STAGES


def test_what_was_asked_for_and_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ValueError, match="the log 'trackio' needs the package trackio: pip install trackio"):
        open_logs(["trackio"], tmp_path, {})
    with pytest.raises(ValueError, match="unknown log 'mlflow'; known logs: tensorboard, wandb, trackio"):
        open_logs(["mlflow"], tmp_path, {})  # pyright: ignore[reportArgumentType]


def test_numbers_and_pictures_reach_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the functions of wandb that are used."""
    said: list[Any] = []

    class Run:
        def log(self, row: dict[str, Any], step: int) -> None:
            said.append((step, row))

        def finish(self) -> None:
            said.append("end")

    stand_in = ModuleType("wandb")
    stand_in.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("wandb", None)
    stand_in.init = lambda **settings: said.append(settings) or Run()  # pyright: ignore[reportAttributeAccessIssue]
    stand_in.Image = lambda path: f"picture of {Path(path).name}"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    [log] = open_logs(["wandb"], tmp_path, {"seed": 3})
    log.numbers({"loss": 0.5}, 7)
    log.picture("chunk", tmp_path / "a.png", 8)
    log.close()
    assert said == [
        {"project": "cerebella", "name": tmp_path.name, "config": {"seed": 3}},
        (7, {"loss": 0.5}),
        (8, {"chunk": "picture of a.png"}),
        "end",
    ]


def test_tensorboard_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    [log] = open_logs(["tensorboard"], tmp_path, {})
    log.numbers({"loss": 0.5}, 7)
    log.picture("chunk", tmp_path / "a.png", 8)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 0.5)]
    assert [event.step for event in events.Images("chunk")] == [8]


def test_a_curve_holds_means_over_its_interval(tmp_path: Path) -> None:
    stage = ALL_STAGES[2]
    curve = Curve(tmp_path, stage, 0, 0, log_every=2, show_progress=False, logs=[])
    for step in curve.steps(0, 2):
        curve.record(step, {"loss": float(step), "mse": 2.0}, 1e-3)
    row = json.loads((tmp_path / "curves.jsonl").read_text())
    assert row == {"stage": stage.name, "train_step": 2, "learning_rate": 0.001, "loss": 0.5, "mse": 2.0}


def test_rows_beyond_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    first, second = ALL_STAGES[0].name, ALL_STAGES[1].name
    rows = [{"stage": stage, "train_step": step} for stage in (first, second) for step in (1, 2)]
    for name in ("curves.jsonl", "validation.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    forget_lost_steps(tmp_path, ALL_STAGES, 1, 1)
    for name in ("curves.jsonl", "validation.jsonl"):
        kept = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert kept == rows[:3]
