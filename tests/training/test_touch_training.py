"""The one loop on pairs of grasps: it learns, two halves are the whole, ranks share one batch, and mistakes are named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cerebella.models.state_model import StateModel, state_config
from cerebella.models.touch_refiner import TouchRefiner, TouchRefinerConfig
from cerebella.processing.motion import batch_without_scene
from cerebella.touch.pairs import PairSource
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import touch_modules, trained_modules
from cerebella.training.optimizer import make_optimizer
from cerebella.training.parallel import TrainedModules, World
from cerebella.training.sources import StepRequest, TrainingBatch
from cerebella.training.stages import Stage
from cerebella.training.touch_objective import touch_errors
from cerebella.training.touch_source import GraspPairs
from tests.training.blobs import blob_set

TINY = TouchRefinerConfig(width=32, finger_depth=0, fusion_depth=1)
STAGE = Stage(
    name="train_touch",
    objective="touch",
    trains=("touch_refiner",),
    num_steps=60,
    batch_size=64,
    learning_rate=3e-3,
    num_warmup_steps=5,
    weight_decay=0.01,
)
SOURCE = GraspPairs(PairSource(blob_set()), dead_finger_share=0.1)
HELD_OUT = [TrainingBatch(touch=GraspPairs(PairSource(blob_set(seed=50))).batch(128, (7,)))]
CPU = torch.device("cpu")


def modules(config: TouchRefinerConfig = TINY) -> TrainedModules:
    torch.manual_seed(0)
    return touch_modules(TouchRefiner(config))


def loop(directory: Path, stop_after: int | None = None) -> LoopConfig:
    return LoopConfig(directory, 3, log_every=10, validate_every=20, stop_after=stop_after, show_progress=False)


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("target", ["increment", "absolute"])
def test_sixty_steps_learn(target: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    assert run_stages(modules(replace(TINY, target=target)), [SOURCE], [STAGE], loop(tmp_path), HELD_OUT)
    curve, held_out = rows(tmp_path / "curves.jsonl"), rows(tmp_path / "validation.jsonl")
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    assert {"rotation", "translation", "gradient_norm"} <= set(curve[0])
    assert [row["train_step"] for row in held_out] == [20, 40, 60]
    last = held_out[-1]
    assert last["error_mm"] < 0.5 * last["start_mm"]
    assert last["error_deg"] < 0.8 * last["start_deg"], "what a random gain can be taken for"
    assert last["error_mm"] < last["p90_mm"]


def test_two_halves_are_the_whole(tmp_path: Path) -> None:
    stage = replace(STAGE, num_steps=6, batch_size=8, ema_decay=0.9)
    whole = modules()
    assert run_stages(whole, [SOURCE], [stage], loop(tmp_path / "whole"))
    assert not run_stages(modules(), [SOURCE], [stage], loop(tmp_path / "parts", stop_after=3))
    again = modules()
    assert run_stages(again, [SOURCE], [stage], loop(tmp_path / "parts"))
    for ours, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_is_a_function_of_its_number() -> None:
    def draw(step: int, rank: int = 0, size: int = 1, parts: int = 1) -> list[TrainingBatch]:
        return SOURCE.draw(StepRequest(STAGE, step, (3, 0), World(rank, size, CPU), parts))

    def said(batch: TrainingBatch) -> torch.Tensor:
        touch = batch.touch
        assert touch is not None
        assert batch.num_windows == len(touch)
        flat = (touch.pressures, touch.joints, touch.goal_pressures, touch.goal_joints, touch.increment, touch.pose)
        return torch.cat([each.flatten(1) for each in flat], dim=1)

    whole = said(draw(4)[0])
    assert whole.shape == (64, 2 * (5 * 99 + 11) + 24)
    assert torch.equal(whole, said(draw(4)[0]))
    assert not torch.equal(whole, said(draw(5)[0]))
    shared = [batch for rank in range(2) for batch in draw(4, rank, size=2, parts=2)]
    assert torch.equal(torch.cat([said(batch) for batch in shared]), whole)
    assert [batch.first_window for batch in shared] == [0, 16, 32, 48]


def test_micro_batches_add_up_to_the_step(tmp_path: Path) -> None:
    stage, losses = replace(STAGE, num_steps=2, batch_size=32), []
    for parts in (1, 4):
        directory = tmp_path / str(parts)
        run_stages(modules(), [SOURCE], [stage], replace(loop(directory), num_micro_batches=parts, log_every=1))
        losses.append([row["loss"] for row in rows(directory / "curves.jsonl")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_pair_is_what_its_label_says() -> None:
    """Both grasps of one object and hand; D leads from one pose to the other; dead fingers are blank in both."""
    batch = replace(SOURCE, dead_finger_share=1.0).batch(32, (1,))
    is_blank = (batch.pressures == 0).flatten(2).all(dim=2)
    assert torch.equal(is_blank, (batch.goal_pressures == 0).flatten(2).all(dim=2))
    assert (is_blank.sum(dim=1) == 1).all()
    assert not is_blank[:, 0].any(), "a thumb that feels nothing holds nothing"
    errors = touch_errors(_perfect(), batch)
    assert errors["error_mm"] == pytest.approx(0, abs=1e-2)
    assert errors["error_deg"] == pytest.approx(0, abs=1e-2)
    assert errors["start_mm"] > 1
    assert 0 <= batch.pressures.min() <= batch.pressures.max() <= 1


class _Perfect(TouchRefiner):
    """Says the label of the batch that `_perfect` was made for."""

    def forward(
        self, pressures: torch.Tensor, joints: torch.Tensor, goal_pressures: torch.Tensor, goal_joints: torch.Tensor
    ) -> torch.Tensor:
        batch = replace(SOURCE, dead_finger_share=1.0).batch(32, (1,))
        assert torch.equal(batch.pressures, pressures)
        return self.normalised(batch.increment)[:, None]


def _perfect() -> TouchRefiner:
    return _Perfect(TINY)


def test_the_optimizer_learns_all_of_it() -> None:
    learnt = modules()
    groups = make_optimizer(learnt, STAGE).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(learnt.parameters()))
    assert all(parameter.requires_grad for parameter in learnt.parameters())
    assert not STAGE.trains_brain


def test_mistakes_are_named(tmp_path: Path) -> None:
    state_model = trained_modules(StateModel(state_config(4, 8, 6, hidden_size=32, num_layers=1)))
    with pytest.raises(ValueError, match=r"needs a touch refiner .* the run trains model, heads"):
        run_stages(state_model, [SOURCE], [replace(STAGE, trains=("cerebellum",))], loop(tmp_path / "a"))
    with pytest.raises(ValueError, match="pairs of grasps serve the objective 'touch' alone"):
        run_stages(modules(), [SOURCE], [replace(STAGE, objective="flow")], loop(tmp_path / "b"))
    with pytest.raises(ValueError, match="needs a model of actions; the run trains touch_refiner, heads"):
        run_stages(modules(), [SOURCE], [STAGE], replace(loop(tmp_path / "c"), compile_layers=True))
    with pytest.raises(ValueError, match="batch_size 64 must be a multiple of 3"):
        run_stages(modules(), [SOURCE], [STAGE], replace(loop(tmp_path / "d"), num_micro_batches=3))
    with pytest.raises(ValueError, match=r"dead_finger_share must be in 0\.\.1; got 2"):
        replace(SOURCE, dead_finger_share=2)
    robot = batch_without_scene(torch.zeros(1, 1, 4), torch.zeros(1, 6, 8))
    with pytest.raises(ValueError, match="cannot share a batch"):
        TrainingBatch(robot, touch=SOURCE.batch(1, (0,)))
