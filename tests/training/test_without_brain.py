"""The training loop on a model without a brain: what works, and what says that it needs one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cerebella.models.state_model import StateModel, state_config
from cerebella.processing.motion import batch_without_scene
from cerebella.training.held_source import Held
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import TrainedModules
from cerebella.training.sources import TrainingBatch
from cerebella.training.stages import Stage

CONFIG = state_config(state_dim=4, action_dim=8, horizon=6, hidden_size=32, num_layers=1)
STAGE = Stage(
    name="posttrain_async",
    objective="flow",
    trains=("cerebellum",),
    num_steps=80,
    batch_size=32,
    learning_rate=5e-3,
    num_warmup_steps=5,
    flow_repeats=1,
    async_probability=0.5,
    max_prefix=3,
    hide_probability=0.5,
)


def _modules() -> TrainedModules:
    torch.manual_seed(0)
    return trained_modules(StateModel(CONFIG))


def _source() -> Held:
    """Actions that follow from the state."""
    state = torch.randn(64, 1, 4, generator=torch.Generator().manual_seed(1))
    actions = F.pad(state[:, :, :2], (0, 6)).expand(-1, 6, -1).contiguous()
    lengths = torch.zeros(64, dtype=torch.int64)
    return Held(batch_without_scene(state, F.pad(torch.ones(64, 6, 2), (0, 6)), actions=actions, prefix_length=lengths))


def test_it_learns_and_is_validated(tmp_path: Path) -> None:
    source, modules = _source(), _modules()
    held_out = [TrainingBatch(robot=source.robot)]
    loop = LoopConfig(tmp_path, log_every=10, save_every=100, validate_every=20, show_progress=False)
    assert run_stages(modules, [source], [STAGE], loop, held_out)
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [row["train_step"] for row in rows] == [20, 40, 60, 80]
    assert rows[-1]["error"] < 0.4 < rows[0]["error"]


def test_what_needs_a_brain_says_so(tmp_path: Path) -> None:
    wanted = r"needs a model with a brain \(VLA\); the run trains a StateModel"
    loops = (
        LoopConfig(tmp_path, recompute=("vision",), show_progress=False),
        LoopConfig(tmp_path, lora_rank=2, show_progress=False),
    )
    for loop in loops:
        with pytest.raises(ValueError, match=wanted):
            run_stages(_modules(), [_source()], [STAGE], loop)
    heads = replace(STAGE, objective="choice")
    with pytest.raises(ValueError, match=wanted):
        run_stages(_modules(), [_source()], [heads], LoopConfig(tmp_path / "choice", show_progress=False))
