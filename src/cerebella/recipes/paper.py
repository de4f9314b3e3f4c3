"""The configurations of the Xiaomi-Robotics-0 paper and of the code released with it, as data.

They need more GPUs than a laptop has; `cerebella plan` says how many. Numbers come from the paper (arXiv 2602.12684) or
from the released post-training code; what neither says is ours, and is listed as such in `ours`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cerebella.models.config import ModelConfig, preset
from cerebella.training.sample_cost import Sight
from cerebella.training.stages import Stage, xr0_posttrain

PRETRAIN_BATCH = 32_768
"""Samples per step in both stages of pre-training (paper)."""
NUM_CONVERSATIONS = round(PRETRAIN_BATCH / 7)
"""Vision-language to robot samples are 1 : 6 (paper)."""

THREE_VIEWS = Sight(views=((256, 320),) * 3, num_text_tokens=85)
"""A bimanual robot: one external and two wrist cameras of 640 x 480, resized as the released code does."""


@dataclass(frozen=True)
class PaperRecipe:
    """One published training run.

    Args:
        name, summary: for people. model: geometry, attention rule and horizon. stages: in order.
        robot: what the brain reads of a robot window. conversation: of a vision-language sample, where there are any.
        ours: field or fact -> why the value is what it is, where no source says it.
    """

    name: str
    summary: str
    model: ModelConfig
    stages: tuple[Stage, ...]
    robot: Sight
    conversation: Sight | None = None
    ours: Mapping[str, str] = field(default_factory=dict)


def _pretraining() -> PaperRecipe:
    brain = Stage(
        name="pretrain_brain",
        objective="choice",
        trains=("vision", "language"),
        num_steps=40_000,
        batch_size=PRETRAIN_BATCH - NUM_CONVERSATIONS,
        num_conversations=NUM_CONVERSATIONS,
        language_weight=1.0,
        learning_rate=1e-4,
        num_warmup_steps=2000,
        decay_rule="released",
    )
    cerebellum = Stage(
        name="pretrain_cerebellum",
        objective="flow",
        trains=("cerebellum",),
        num_steps=40_000,
        batch_size=PRETRAIN_BATCH,
        learning_rate=1e-4,
        num_warmup_steps=2000,
        decay_rule="released",
        frequency_weight=0.0,
        mse_weight=1.0,
        noise_in_unused_slots=True,
    )
    return PaperRecipe(
        name="xr0-pretrain",
        summary="both stages of pre-training: brain with Choice Policies and language, then the cerebellum",
        model=preset("xr0"),
        stages=(brain, cerebellum),
        robot=THREE_VIEWS,
        conversation=Sight(views=((448, 448),), num_text_tokens=80, num_answer_tokens=40),
        ours={
            "num_steps": "the paper says 40 000; that each stage takes so many is our reading",
            "learning_rate": "unknown; the peak of the released post-training",
            "num_warmup_steps": "unknown; as in the released post-training",
            "trains": "whether token embeddings move is unknown; frozen, as in the released post-training",
            "num_candidates": "unknown; 5, as in the code of the successor",
            "language_weight": "unknown; 1",
            "flow_repeats": "whether one brain pass serves several draws is unknown for pre-training; 4, as later",
            "conversation": "one picture of 448 px and 120 tokens; the real lengths are unknown",
            "robot": "views of the real robot; the mixture's are unknown",
        },
    )


def _simulation(name: str, summary: str, horizon: int, robot: Sight) -> PaperRecipe:
    """Full fine-tuning for one benchmark; sizes of the released checkpoints, which are causal."""
    return PaperRecipe(
        name=name,
        summary=summary,
        model=preset("xr0", horizon=horizon),
        stages=(xr0_posttrain(is_async=False),),
        robot=robot,
        ours={
            "num_steps": "unknown; the released post-training's 30 000",
            "batch_size": "unknown; the released post-training's 128",
            "learning_rate": "unknown; the released post-training's 1e-4",
        },
    )


def _real_robot(name: str, summary: str, num_steps: int) -> PaperRecipe:
    """Asynchronous post-training with the attention rule that the paper describes."""
    stage = xr0_posttrain(is_async=True, num_steps=num_steps, batch_size=2048)
    return PaperRecipe(
        name=name,
        summary=summary,
        model=preset("xr0").with_mask("lambda"),
        stages=(replace(stage, async_probability=1.0, prefix_law="uniform_0_to_max"),),
        robot=THREE_VIEWS,
        ours={
            "learning_rate": "unknown; the released post-training's 1e-4",
            "mask_window": "unknown; 4, as in the released post-training",
            "hide_probability": "unknown; 0.5, as in the released post-training",
        },
    )


def _released(is_async: bool) -> PaperRecipe:
    kind = "async" if is_async else "sync"
    return PaperRecipe(
        name=f"xr0-posttrain-{kind}",
        summary=f"the released post-training, {kind}hronous, 30 000 steps of 128",
        model=preset("xr0").with_mask("band"),
        stages=(xr0_posttrain(is_async),),
        robot=THREE_VIEWS,
    )


RECIPES: Mapping[str, PaperRecipe] = {
    recipe.name: recipe
    for recipe in (
        _pretraining(),
        _released(is_async=False),
        _released(is_async=True),
        _real_robot("xr0-lego", "asynchronous post-training on LEGO disassembly, 40 000 steps of 2 048", 40_000),
        _real_robot("xr0-towel", "asynchronous post-training on towel folding, 80 000 steps of 2 048", 80_000),
        _simulation("xr0-libero", "fine-tuning for LIBERO, horizon 10", 10, Sight(((256, 256),) * 2, 70)),
        _simulation("xr0-calvin", "fine-tuning for CALVIN, horizon 10", 10, Sight(((192, 192), (96, 96)), 70)),
        _simulation("xr0-simpler", "fine-tuning for SimplerEnv, horizon 4", 4, Sight(((256, 320),), 70)),
    )
}
"""Name -> recipe, all at the released size (4.7 B parameters)."""
