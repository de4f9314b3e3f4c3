"""From nothing to a small brain that sees a workcell task: what `pretrain_brain` starts from where no published brain is at hand.

Two lessons at once, from one set of demonstrations: every vision token learns what lies in it and where, the last text token where
the object is that is to be handled next, and the brain learns to answer the set's own questions. A published brain needs none of
this. The result is a policy directory whose cerebellum has not learnt anything yet.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping_sources import map_from_names
from cerebella.data.records import RecordSource
from cerebella.data.sources import RobotSource
from cerebella.data.windows import Run
from cerebella.embodiment import Embodiment
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table
from cerebella.policies.stored import as_device
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.images import ImageConfig
from cerebella.processing.measure import measure_sources
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.fine_tune.data_set import open_episodes
from cerebella.recipes.policy_files import save_run, stage_records
from cerebella.recipes.workcell_set import COMPANION, EMBODIMENT, RECORDS
from cerebella.recipes.workcell_windows import SeenDemonstrations
from cerebella.training.loop import LoopConfig, Precision, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import World
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage
from cerebella.training.vision_objective import VisionHeads
from cerebella.types import Conversation

STAGE = Stage(
    name="warmup_vision",
    objective="vision",
    trains=("vision", "language", "embeddings"),
    num_steps=2000,
    batch_size=64,
    num_conversations=16,
    language_weight=1.0,
    learning_rate=1.5e-3,
    final_learning_rate=1e-4,
    num_warmup_steps=100,
    weight_decay=0.02,
)
_NUM_TEXTS = 4096
"""Conversations that the tokenizer's merges are learnt from."""


@dataclass(frozen=True)
class WorkcellWarmup:
    """A complete run.

    Args:
        data: a set that `cerebella data generate workcell/...` wrote, with pictures as small as the model is to see.
        out: the policy directory to write.
        preset: model size. horizon: rows of a chunk, for the stages behind this one.
        stage: steps, batch and learning rate; without conversations if `num_conversations` is 0.
        stride: rows between two windows; see `SeenDemonstrations` for what they take.
        held_out: share of the episodes, the last ones, that are left out, as in the stages to come.
        seed: decides initial weights and every draw.
        device: `auto` takes a GPU if there is one. precision: of the forward pass; weights stay float32.
        num_threads: of a CPU. save_every: steps between two checkpoints. stop_after: end after so many; the next call continues.
    """

    data: Path
    out: Path
    preset: str = "micro"
    horizon: int = 30
    stage: Stage = STAGE
    stride: int = 3
    held_out: float = 0.05
    seed: int = 0
    device: str = "auto"
    precision: Precision = "bfloat16"
    num_threads: int = 2
    save_every: int = 250
    stop_after: int | None = None
    show_progress: bool = True


@dataclass(frozen=True)
class CompanionTalk:
    """The conversations of a set, by index. Fulfils `training.ConversationSource`."""

    records: RecordSource

    def __len__(self) -> int:
        """Number of conversations."""
        return len(self.records.windows)

    def conversations(self, indices: np.ndarray) -> list[Conversation]:
        """The conversations at `indices`."""
        return [self.records.read(Run(0, int(index), 1, int(index)))[0] for index in indices]


def warm_up(recipe: WorkcellWarmup) -> list[Path]:
    """Run (or continue) the recipe; returns the paths written.

    Raises:
        FileNotFoundError: no such set, or one without landmarks or questions. ValueError: it is too short for the horizon.
    """
    torch.set_num_threads(recipe.num_threads)
    device = as_device(recipe.device)
    config = preset(recipe.preset, horizon=recipe.horizon)
    robot = Embodiment.load(recipe.data / EMBODIMENT)
    store = LeRobotStore(recipe.data)
    mapping = map_from_names(store, robot)
    source = open_episodes(store, store.name, mapping, recipe.horizon, recipe.held_out, on_fault="raise").source
    assert isinstance(source, RobotSource)
    talk = CompanionTalk(RecordSource(recipe.data / COMPANION / RECORDS))
    processor = _processor(config, robot, store, source, talk)
    windows = SeenDemonstrations(recipe.data, source, recipe.stride, recipe.show_progress)
    torch.manual_seed(recipe.seed)
    model = VLA(config).to(device)
    if device.type == "cpu":
        # The same attention written out: its backward pass is much cheaper on a CPU at these lengths than the fused one.
        model.brain.set_attn_implementation("eager")
    width = config.brain["text_config"]["hidden_size"]
    heads = VisionHeads(width, len(windows.kinds), num_views=len(robot.views)).to(device)
    run = recipe.out / "run"
    loop = LoopConfig(
        directory=run,
        seed=recipe.seed,
        precision=recipe.precision,
        save_every=recipe.save_every,
        stop_after=recipe.stop_after,
        compile_layers=device.type == "cuda",
        show_progress=recipe.show_progress,
    )
    data = Shuffled(windows, processor, talk, ConversationProcessor(processor.tokenizer, processor.images))
    modules = trained_modules(model, vision=heads)
    if not run_stages(modules, [data], [recipe.stage], loop, world=World(0, 1, device)):
        return [path for path in (run / "checkpoints", run / "curves.jsonl") if path.exists()]
    records = stage_records(config, [recipe.stage])
    paths = save_run(recipe.out, run, model, processor, records, describe(recipe), model_card(recipe, config))
    shutil.rmtree(run)
    return paths


def _processor(
    config: ModelConfig, robot: Embodiment, store: LeRobotStore, source: RobotSource, talk: CompanionTalk
) -> Processor:
    """Statistics of the windows; a tokenizer from the set's instructions, questions and answers."""
    texts = [robot_prompt(robot.views, prompt) for prompt in store.tasks.values()]
    chosen = np.unique(np.linspace(0, len(talk) - 1, min(len(talk), _NUM_TEXTS)).astype(np.int64))
    texts += [text for each in talk.conversations(chosen) for _, text in each.turns]
    return Processor(
        embodiment=robot,
        statistics=measure_sources([source]),
        tokenizer=train_tokenizer(texts, vocab_size=config.brain["text_config"]["vocab_size"]),
        images=ImageConfig(patch_size=config.brain["vision_config"]["patch_size"]),
        horizon=config.horizon,
        model_state_dim=config.state_dim,
        model_action_dim=config.action_dim,
    )


def describe(recipe: WorkcellWarmup) -> dict[str, object]:
    """The recipe as JSON, without where and how fast it was run."""
    fields = asdict(recipe)
    for name in ("out", "data", "show_progress", "stop_after", "num_threads", "device"):
        del fields[name]
    return {"recipe": "workcell-warmup", "data": recipe.data.name, **json.loads(json.dumps(fields))}


def model_card(recipe: WorkcellWarmup, config: ModelConfig) -> str:
    """What the policy directory's README says."""
    stage = recipe.stage
    return f"""# {recipe.out.name}

A Qwen3-VL brain of {parameter_table(config).brain / 1e6:.1f} M parameters (`{config.name}`) that has learnt to see one simulated task
(the set `{recipe.data.name}`): {stage.num_steps:,} steps of {stage.batch_size} windows, three pictures each, with the truth about them,
and {stage.num_conversations} conversations. Its cerebellum has not learnt anything: `cerebella train pretrain_brain --start` goes on
from here. ![loss curves](curves.png)

Again: `cerebella train workcell-warmup --seed {recipe.seed} --data ... --out ...`. License: Apache-2.0.
"""
