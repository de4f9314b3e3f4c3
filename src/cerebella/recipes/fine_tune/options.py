"""The options of every stage on one's own data. What a stage is unless told otherwise is data: `STAGES`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from cerebella.embodiment import Embodiment
from cerebella.models.choice import NUM_CANDIDATES
from cerebella.recipes.fine_tune.data_sets import SetOptions
from cerebella.recipes.fine_tune.start import StartOptions
from cerebella.recipes.paper import RECIPES
from cerebella.released_robots import released_embodiment
from cerebella.training.logs import LogName
from cerebella.training.loop import Precision, Recomputed
from cerebella.training.stages import Part, PrefixDraw, PrefixLaw, Stage

_POSTTRAIN = Stage(
    name="posttrain_sync",
    objective="flow",
    trains=("vision", "language", "cerebellum"),
    num_steps=5_000,
    batch_size=32,
    learning_rate=1e-4,
    num_warmup_steps=500,
)
STAGES: Mapping[str, Stage] = {
    "pretrain_brain": replace(
        _POSTTRAIN, name="pretrain_brain", objective="choice", trains=("vision", "language"), num_steps=10_000
    ),
    "pretrain_cerebellum": replace(
        _POSTTRAIN,
        name="pretrain_cerebellum",
        trains=("cerebellum",),
        num_steps=10_000,
        mse_weight=1.0,
        frequency_weight=0.0,
    ),
    "posttrain_sync": _POSTTRAIN,
    "posttrain_async": replace(_POSTTRAIN, name="posttrain_async", async_probability=0.5, max_prefix=6),
    **{name: RECIPES[f"xr0-{name}"].stages[0] for name in ("libero", "calvin", "simpler")},
}
"""Recipe -> its stage. The first four are sized for one GPU; the others are the paper's."""


@dataclass(frozen=True, kw_only=True)
class FineTune(SetOptions, StartOptions):
    """What all stages have in common. An option with the name of a field of `Stage` replaces that field."""

    recipe: ClassVar[str]

    out: Path
    """the policy directory to write; until it is finished, the run's checkpoints lie in its run/"""
    embodiment: tuple[Path, ...] = ()
    """embodiment.json of the robot; one for all data sets, or one for each (the policy is for the first). The start's own robot if
    not given"""
    statistics: Literal["auto", "measure", "keep"] = "auto"
    """mean and spread of actions and states: measured on the episodes to train on, or kept from the start, at whose scale the
    policy then goes on; auto keeps them where the start has those of every robot in the data"""
    weights: tuple[float, ...] = ()
    """shares of the data sets, one number for each; by their numbers of windows if not given"""
    conversations: tuple[str, ...] = ()
    """vision-language data to learn from beside the robot's: JSON lines, or shards of conversations"""
    vl_ratio: float | None = None
    """conversations per robot window, e.g. 0.1667; needed with --conversations"""
    language_weight: float = 1.0
    """of the next-token loss on conversations beside the robot's loss"""
    num_steps: int
    """optimiser steps"""
    batch_size: int
    """robot windows per step, over all processes"""
    learning_rate: float
    """peak of the learning rate, which then falls to its end as a cosine"""
    num_warmup_steps: int | None = None
    """steps until that peak; the recipe's own, but at most a tenth of num_steps, if not given"""
    trains: tuple[Part, ...] = ()
    """parts whose weights move; if not given those of the recipe, and the token embeddings where the brain is a new one"""
    ema_decay: float = 0.0
    """keep a running mean of the weights, e.g. 0.999, and end with it; 0 is none"""
    lora_rank: int = 0
    """low-rank adapters in place of the brain's language weights, merged at the end; 0 trains the weights"""
    num_micro_batches: int = 1
    """passes that a step is cut into on each process, to save memory"""
    precision: Precision = "bfloat16"
    """bfloat16 computes in it and keeps weights in float32; pure_bfloat16 halves the memory and loses small updates"""
    recompute: tuple[Recomputed, ...] = ()
    """parts that are computed again in the backward pass, to save memory"""
    device: str = "auto"
    """auto is the GPU if there is one; under torchrun every process takes its own"""
    num_workers: int = 4
    """threads that decode ahead, per process"""
    shuffle_windows: int = 1024
    """windows held in memory to shuffle, over all sets; up to twice as many are there at a time"""
    save_every: int = 500
    """steps between two checkpoints; a killed run loses no more"""
    validate_every: int = 500
    """steps between two looks at the held-out episodes; 0 is never"""
    log_every: int = 20
    """steps per row of curves.jsonl"""
    logs: tuple[LogName, ...] = ()
    """beside curves.jsonl: tensorboard, wandb or trackio"""
    stop_after: int | None = None
    """end after so many steps; the same command continues"""
    seed: int = 0
    """decides the order of the data, every draw, and the weights that the start does not have"""
    show_progress: bool = True
    """draw progress bars"""

    def own_robot(self) -> Embodiment | None:
        """The robot of the recipe itself; None where data and start decide."""
        return None

    def stage(self, num_conversations: int, has_new_brain: bool) -> Stage:
        """The stage that these options ask for.

        Raises:
            ValueError: a number out of range, or conversations for a stage that trains no part of the brain.
        """
        template = STAGES[self.recipe]
        changes: dict[str, Any] = {
            each.name: getattr(self, each.name) for each in fields(Stage) if hasattr(self, each.name)
        }
        changes["trains"] = self.trains or template.trains
        if has_new_brain and not self.trains and template.trains_brain:
            changes["trains"] = (*template.trains, "embeddings")
        if self.num_warmup_steps is None:
            changes["num_warmup_steps"] = min(template.num_warmup_steps, self.num_steps // 10)
        changes["num_conversations"] = num_conversations
        changes["language_weight"] = self.language_weight if num_conversations else 0.0
        stage = replace(template, **changes)
        if num_conversations and not stage.trains_brain:
            raise ValueError(
                f"{self.recipe} trains {', '.join(stage.trains)}: no part of the brain, which conversations would teach"
            )
        return stage


@dataclass(frozen=True, kw_only=True)
class PretrainBrain(FineTune):
    """Teach the brain to move: Choice Policies on robot windows, next tokens on conversations; the cerebellum rests."""

    recipe = "pretrain_brain"
    num_steps: int = STAGES["pretrain_brain"].num_steps
    batch_size: int = STAGES["pretrain_brain"].batch_size
    learning_rate: float = STAGES["pretrain_brain"].learning_rate
    num_candidates: int = NUM_CANDIDATES
    """chunks that are proposed for a window; the best one learns"""
    loser_weight: float = 0.0
    """share of the regression that the others have together; 0.05 helps where one of them always wins"""


@dataclass(frozen=True, kw_only=True)
class FlowTune(FineTune):
    """What the stages on flow matching have in common."""

    flow_repeats: int = _POSTTRAIN.flow_repeats
    """draws of noise and flow time for each pass of the brain"""


@dataclass(frozen=True, kw_only=True)
class PretrainCerebellum(FlowTune):
    """Teach a cerebellum on a brain that rests: flow matching, several draws for each pass of the brain."""

    recipe = "pretrain_cerebellum"
    num_steps: int = STAGES["pretrain_cerebellum"].num_steps
    batch_size: int = STAGES["pretrain_cerebellum"].batch_size
    learning_rate: float = STAGES["pretrain_cerebellum"].learning_rate


@dataclass(frozen=True, kw_only=True)
class PosttrainSync(FlowTune):
    """Fine-tune brain and cerebellum for a robot that waits for its next chunk."""

    recipe = "posttrain_sync"
    num_steps: int = STAGES["posttrain_sync"].num_steps
    batch_size: int = STAGES["posttrain_sync"].batch_size
    learning_rate: float = STAGES["posttrain_sync"].learning_rate


@dataclass(frozen=True, kw_only=True)
class PosttrainAsync(FlowTune):
    """Fine-tune brain and cerebellum for a robot that moves on while it thinks: chunks continue an action prefix."""

    recipe = "posttrain_async"
    num_steps: int = STAGES["posttrain_async"].num_steps
    batch_size: int = STAGES["posttrain_async"].batch_size
    learning_rate: float = STAGES["posttrain_async"].learning_rate
    async_probability: float = STAGES["posttrain_async"].async_probability
    """share of the draws that have a prefix"""
    max_prefix: int = STAGES["posttrain_async"].max_prefix
    """longest prefix, rows: the longest delay that the policy can be run at"""
    hide_probability: float = STAGES["posttrain_async"].hide_probability
    """chance that a row of the prefix, all but the last two, is hidden, so that the picture is looked at"""
    reweight_errors: bool = STAGES["posttrain_async"].reweight_errors
    """weigh the rows behind a prefix by how far the sampler is off"""
    sent_share: float = 0.4
    """with --sent-column: share of the windows whose prefix is at least 1..max_prefix rows of what was really sent"""
    prefix_law: PrefixLaw = STAGES["posttrain_async"].prefix_law
    """lengths of prefixes: none or 1..max_prefix (released code), or 0..max_prefix, all alike (paper)"""
    prefix_draw: PrefixDraw = STAGES["posttrain_async"].prefix_draw
    """one length for each window, or one for the whole batch (released code)"""


PRETRAINED = "XiaomiRobotics/Xiaomi-Robotics-0-Pretrain"


@dataclass(frozen=True, kw_only=True)
class Simulation(PosttrainSync):
    """Full fine-tuning for a simulation benchmark: the robots, horizons and stage of the released checkpoints."""

    start: str = PRETRAINED
    map: tuple[str, ...] = ("order",)
    robot: str

    def own_robot(self) -> Embodiment:
        """As the released client of the benchmark has it."""
        return released_embodiment(self.robot)


@dataclass(frozen=True, kw_only=True)
class Libero(Simulation):
    """Fine-tune for LIBERO as the paper does: chunks of 10 rows. Several GPUs; `cerebella plan xr0-libero` says how many."""

    recipe = "libero"
    horizon: int | None = RECIPES["xr0-libero"].model.horizon
    num_steps: int = STAGES["libero"].num_steps
    batch_size: int = STAGES["libero"].batch_size
    learning_rate: float = STAGES["libero"].learning_rate
    robot: Literal["libero_all"] = "libero_all"
    """robot type: what state and actions mean"""


@dataclass(frozen=True, kw_only=True)
class Calvin(Simulation):
    """Fine-tune for CALVIN as the paper does: chunks of 10 rows. Several GPUs; `cerebella plan xr0-calvin` says how many."""

    recipe = "calvin"
    horizon: int | None = RECIPES["xr0-calvin"].model.horizon
    num_steps: int = STAGES["calvin"].num_steps
    batch_size: int = STAGES["calvin"].batch_size
    learning_rate: float = STAGES["calvin"].learning_rate
    robot: Literal["calvin_abcd_orig", "calvin_abc_orig"] = "calvin_abcd_orig"
    """robot type: what state and actions mean"""


@dataclass(frozen=True, kw_only=True)
class Simpler(Simulation):
    """Fine-tune for SimplerEnv as the paper does: chunks of 4 rows. Several GPUs; `cerebella plan xr0-simpler` says how many."""

    recipe = "simpler"
    horizon: int | None = RECIPES["xr0-simpler"].model.horizon
    num_steps: int = STAGES["simpler"].num_steps
    batch_size: int = STAGES["simpler"].batch_size
    learning_rate: float = STAGES["simpler"].learning_rate
    robot: Literal["fractal_delta", "bridge_delta"] = "bridge_delta"
    """robot type: the Google robot, or the WidowX"""


FINE_TUNES: tuple[type[FineTune], ...] = (
    PretrainBrain,
    PretrainCerebellum,
    PosttrainSync,
    PosttrainAsync,
    Libero,
    Calvin,
    Simpler,
)
"""Every recipe of this kind; `run.fine_tune` runs each of them."""
