"""What a stage minimises: one robot objective from a table, and beside it the next-token loss on conversations."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from cerebella.batch import VisionLanguageBatch
from cerebella.models.action_model import ActionModel
from cerebella.models.brain import word_losses
from cerebella.models.choice import ChoiceHeads
from cerebella.models.touch_refiner import TouchRefiner
from cerebella.models.vla import VLA
from cerebella.training.choice_objective import choice_objective
from cerebella.training.flow_objective import draw_flow, flow_objective
from cerebella.training.parallel import TrainedModules
from cerebella.training.sources import TrainingBatch
from cerebella.training.stages import Objective, Stage
from cerebella.training.touch_objective import touch_objective
from cerebella.training.vision_objective import VisionHeads, vision_objective

RobotObjective = Callable[[nn.ModuleDict, TrainingBatch, Stage, tuple[int, ...]], Mapping[str, Tensor]]


def trained_modules(
    model: ActionModel, vision: VisionHeads | None = None, choice: ChoiceHeads | None = None
) -> TrainedModules:
    """Everything that the stages of one run touch: the model and the heads that their objectives throw away at the end."""
    heads = {name: head for name, head in (("vision", vision), ("choice", choice)) if head is not None}
    return TrainedModules({"model": model, "heads": nn.ModuleDict(heads)})


def touch_modules(refiner: TouchRefiner) -> TrainedModules:
    """What a run trains whose stages have the objective `touch`."""
    return TrainedModules({"touch_refiner": refiner, "heads": nn.ModuleDict()})


def step_losses(
    modules: nn.ModuleDict,
    batch: TrainingBatch,
    stage: Stage,
    seed: tuple[int, ...],
    robot_share: float,
    num_tokens: Tensor | None,
) -> dict[str, Tensor]:
    """`loss`, to be added up over the micro-batches of a step, and its parts, which add up alike.

    Args:
        seed: (run seed, stage index, step), decides every draw.
        robot_share: this micro-batch's share of the windows (or pairs of grasps) of the process.
        num_tokens: counted tokens of the whole step, float32[]; None without conversations.

    Raises:
        ValueError: the stage needs heads that the modules lack, or the data miss what it learns from.
    """
    losses: dict[str, Tensor] = {}
    if batch.num_windows:
        robot = ROBOT_OBJECTIVES[stage.objective](modules, batch, stage, seed)
        losses = {name: value * robot_share for name, value in robot.items()}
    if batch.language is not None:
        assert num_tokens is not None, "the next-token loss needs the number of counted tokens"
        next_token = next_token_loss(model_of(modules), batch.language, num_tokens)
        losses["next_token"] = next_token.detach()
        weighted = stage.language_weight * next_token
        losses["loss"] = losses["loss"] + weighted if "loss" in losses else weighted
    if not losses:
        raise ValueError(f"stage {stage.name!r}: the source gave a micro-batch with neither windows nor conversations")
    return losses


def next_token_loss(model: VLA, batch: VisionLanguageBatch, num_tokens: Tensor) -> Tensor:
    """Sum of the cross-entropies of the counted tokens over `num_tokens` (of the whole step, not of this batch)."""
    losses, _ = word_losses(model.brain, batch)
    return losses.sum() / num_tokens


def model_of(modules: nn.ModuleDict) -> VLA:
    """The model among the trained modules, for what needs a brain; a ValueError if it has none."""
    model = action_model_of(modules)
    if not isinstance(model, VLA):
        raise ValueError(f"this needs a model with a brain (VLA); the run trains a {type(model).__name__}")
    return model


def action_model_of(modules: nn.ModuleDict) -> ActionModel:
    """The model among the trained modules, with or without a brain; a ValueError if the run trains another kind."""
    model = dict(modules.items()).get("model")
    if not isinstance(model, ActionModel):
        raise ValueError(f"this needs a model of actions; the run trains {', '.join(modules)}")
    return model


def touch_refiner_of(modules: nn.ModuleDict) -> TouchRefiner:
    """The refiner among the trained modules; a ValueError if there is none."""
    refiner = dict(modules.items()).get("touch_refiner")
    if not isinstance(refiner, TouchRefiner):
        raise ValueError(f"this needs a touch refiner (see touch_modules); the run trains {', '.join(modules)}")
    return refiner


def choice_heads_of(modules: nn.ModuleDict) -> ChoiceHeads:
    """The choice heads; a ValueError if the run has none."""
    heads = _head(modules, "choice")
    assert isinstance(heads, ChoiceHeads)
    return heads


def _vision(modules: nn.ModuleDict, batch: TrainingBatch, stage: Stage, _: tuple[int, ...]) -> Mapping[str, Tensor]:
    heads = _head(modules, "vision")
    assert isinstance(heads, VisionHeads)
    assert batch.robot is not None
    if batch.truth is None:
        raise ValueError(f"stage {stage.name!r}: the vision objective needs scene truth, but the source gave none")
    return vision_objective(model_of(modules), heads, batch.robot, batch.truth)


def _flow(modules: nn.ModuleDict, batch: TrainingBatch, stage: Stage, seed: tuple[int, ...]) -> Mapping[str, Tensor]:
    assert batch.robot is not None
    draws = draw_flow(stage, batch.robot, seed, batch.first_window).to(batch.robot.state.device)
    return flow_objective(action_model_of(modules), batch.robot, stage, draws)


def _choice(modules: nn.ModuleDict, batch: TrainingBatch, stage: Stage, _: tuple[int, ...]) -> Mapping[str, Tensor]:
    assert batch.robot is not None
    return choice_objective(model_of(modules), choice_heads_of(modules), batch.robot, stage)


def _touch(modules: nn.ModuleDict, batch: TrainingBatch, stage: Stage, _: tuple[int, ...]) -> Mapping[str, Tensor]:
    if batch.touch is None:
        raise ValueError(f"stage {stage.name!r}: the touch objective needs pairs of grasps, but the source gave none")
    return touch_objective(touch_refiner_of(modules), batch.touch)


def _no_robot(_: nn.ModuleDict, __: TrainingBatch, stage: Stage, ___: tuple[int, ...]) -> Mapping[str, Tensor]:
    raise ValueError(f"stage {stage.name!r} learns from conversations alone, but the source gave robot windows")


ROBOT_OBJECTIVES: Mapping[Objective, RobotObjective] = {
    "vision": _vision,
    "flow": _flow,
    "choice": _choice,
    "next_token": _no_robot,
    "touch": _touch,
}


def _head(modules: nn.ModuleDict, name: str) -> nn.Module:
    heads = modules["heads"]
    assert isinstance(heads, nn.ModuleDict)
    if name not in heads:
        raise ValueError(f"the objective {name!r} needs its heads: pass {name}= to trained_modules")
    return heads[name]
