"""From nothing to a small brain that sees: what `pretrain_brain` starts from where no published brain is at hand.

Two lessons at once: every vision token learns what lies in it and where (simulator truth), and the brain learns to answer
questions about the same small world. Published brains need none of this. The result is a plain Qwen3-VL directory.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.envs.dynamic.conveyor_prompts import all_prompts
from cerebella.envs.scenes.families import FAMILIES
from cerebella.envs.scenes.questions import KINDS, make_questions
from cerebella.envs.scenes.shapes import HEIGHT_PX
from cerebella.evaluation.answering import answerer
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.vision_language import ask
from cerebella.evaluation.vision_language_report import write_retention
from cerebella.models.checkpoint import load_brain
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table
from cerebella.policies.brain import read_brain, save_brain
from cerebella.policies.stored import as_device, weights_hash
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.images import ImageConfig
from cerebella.processing.prompt import robot_prompt
from cerebella.recipes.conveyor import make_processor
from cerebella.recipes.scene_data import SceneAmount, held_conversations, held_windows, scene_tokenizer
from cerebella.training.curves import plot_curves
from cerebella.training.held_source import Held, hold
from cerebella.training.loop import LoopConfig, Precision, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import World
from cerebella.training.stages import Stage
from cerebella.training.vision_objective import VisionHeads

STAGE = Stage(
    name="warmup_vision",
    objective="vision",
    trains=("vision", "language", "embeddings"),
    num_steps=520,
    batch_size=256,
    num_conversations=1024,
    language_weight=1.0,
    learning_rate=2e-3,
    final_learning_rate=2e-5,
    num_warmup_steps=100,
    weight_decay=0.05,
)
SHORT_ANSWERS = ("present", "count", "colour", "shape", "where", "point")
"""Families whose answers are a word, a number or a point. Long answers (captions, boxes) drown them in the first lesson:
the loss is a mean over tokens."""


@dataclass(frozen=True)
class SceneBrainRecipe:
    """A complete run. The defaults took a GPU; `--stage.num-steps`, `--stage.batch-size` and so on make it smaller.

    Args:
        start: a brain directory to go on from, with its tokenizer; None begins with nothing.
        preset: model size; its cerebellum is built and thrown away.
        out: the brain directory to write.
        seed: decides data, initial weights and every draw.
        families: what is asked.
        num_questions: per family, of training scenes. num_windows: pictures with dense truth.
        max_turns: questions per picture at most. height: rows of a picture, px.
        num_held_out: questions per family for the examination at the end.
        stage: steps, batch and learning rate.
        device: `auto` takes a GPU if there is one. precision: of the forward pass; weights stay float32.
        num_workers: processes that render and encode; 0 takes one per core. num_threads: of a CPU that trains.
        save_every: steps between two checkpoints. stop_after: end after so many; the next call continues.
    """

    start: Path | None = None
    preset: str = "nano"
    out: Path = Path("outputs/brains/scenes-nano")
    seed: int = 0
    families: tuple[str, ...] = tuple(FAMILIES)
    num_questions: int = 24_000
    num_windows: int = 24_000
    max_turns: int = 6
    height: int = HEIGHT_PX
    num_held_out: int = 1000
    stage: Stage = STAGE
    device: str = "auto"
    precision: Precision = "bfloat16"
    num_workers: int = 0
    num_threads: int = 2
    save_every: int = 500
    stop_after: int | None = None
    show_progress: bool = True


def train(recipe: SceneBrainRecipe) -> list[Path]:
    """Run (or continue) the recipe; returns the paths written."""
    torch.set_num_threads(recipe.num_threads)
    device = as_device(recipe.device)
    config = preset(recipe.preset)
    amount = SceneAmount(
        recipe.families,
        recipe.num_questions,
        recipe.num_windows,
        recipe.height,
        recipe.max_turns,
        recipe.seed,
        recipe.num_workers or os.cpu_count() or 1,
    )
    images = ImageConfig(patch_size=config.brain["vision_config"]["patch_size"])
    if recipe.start is None:
        texts = [robot_prompt(CONVEYOR.views, prompt) for prompt in all_prompts()]
        vocab_size = config.brain["text_config"]["vocab_size"]
        tokenizer = scene_tokenizer(recipe.families, texts, vocab_size, recipe.seed)
    else:
        tokenizer = read_brain(recipe.start, config).tokenizer
    talk = ConversationProcessor(tokenizer, images)
    robot, truth = None, None
    if recipe.stage.batch_size:
        # The scenes are dressed as windows of the conveyor robot, whose statistics are not read by anything here.
        dress = make_processor(config, CONVEYOR, expert_windows(256, config.horizon, seed=recipe.seed), tokenizer)
        windows, truth = held_windows(amount, dress)
        robot = hold(windows, device)
    source = Held(robot, truth, hold(held_conversations(amount, talk), device))
    torch.manual_seed(recipe.seed)
    model = VLA(config)
    if recipe.start is not None:
        load_brain(model, recipe.start)
    model.to(device)
    heads = VisionHeads(config.brain["text_config"]["hidden_size"], len(KINDS)).to(device)
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
    modules = trained_modules(model, vision=heads)
    if not run_stages(modules, [source], [recipe.stage], loop, world=World(0, 1, device)):
        return [path for path in (run / "checkpoints", run / "curves.jsonl") if path.exists()]
    save_brain(recipe.out, model, tokenizer, images)
    shutil.copy(run / "curves.jsonl", recipe.out / "curves.jsonl")
    plot_curves(recipe.out / "curves.jsonl", recipe.out / "curves.png")
    questions = make_questions(recipe.families, recipe.num_held_out, recipe.seed, "held_out")
    result = ask(answerer(model, talk), questions, recipe.seed, batch_size=256)
    facts = {**run_fingerprint(recipe.seed), "weights": weights_hash(recipe.out)}
    paths = write_retention(recipe.out / "examination.html", {recipe.out.name: result}, facts, questions)
    (recipe.out / "recipe.json").write_text(json.dumps(describe(recipe), indent=1) + "\n")
    (recipe.out / "README.md").write_text(model_card(recipe, config))
    shutil.rmtree(run)
    return [recipe.out, *paths]


def describe(recipe: SceneBrainRecipe) -> dict[str, object]:
    """The recipe as JSON, without where and how fast it was run; what it started from comes with its own recipe."""
    fields = asdict(recipe)
    for name in ("out", "show_progress", "stop_after", "num_workers", "num_threads", "start"):
        del fields[name]
    said: dict[str, object] = {
        "recipe": "scene-brain",
        **json.loads(json.dumps(fields)),
        "stage_fingerprint": recipe.stage.fingerprint,
    }
    if recipe.start is not None:
        before = recipe.start / "recipe.json"
        recipe_before = json.loads(before.read_text()) if before.is_file() else None
        said["start"] = {"weights": weights_hash(recipe.start), "recipe": recipe_before}
    return said


def model_card(recipe: SceneBrainRecipe, config: ModelConfig) -> str:
    """What the brain directory's README says."""
    stage = recipe.stage
    seen = f" and {stage.batch_size} pictures with dense truth" if stage.batch_size else ""
    name, start = "scene-brain", ""
    if recipe.start is not None:
        name = "scene-brain-second --start LESSON1"
        start = " It went on from the brain of an earlier lesson, whose recipe stands in `recipe.json`, too."
    return f"""# {recipe.out.name}

A Qwen3-VL of {parameter_table(config).brain / 1e6:.1f} M parameters (`{config.name}`) that was trained from nothing on a small
world of flat objects: it answers questions about pictures of {recipe.height} x {recipe.height * 3 // 2} px
({", ".join(recipe.families)}) and knows nothing else. It stands in for a published brain where none can be downloaded: the
three stages start from it, and what they leave of it is measured on the same questions.

{stage.num_steps:,} steps of {stage.num_conversations:,} conversations{seen}, seed {recipe.seed}; {recipe.num_questions:,} questions a
family.{start} `examination.html` shows its answers to held-out questions, `curves.jsonl` has the losses, `recipe.json` all settings.

![loss curves](curves.png)

It loads with Transformers (`AutoModelForImageTextToText`). Again: `cerebella train {name} --seed {recipe.seed}`.
License: Apache-2.0.
"""


SECOND_LESSON = SceneBrainRecipe(
    families=SHORT_ANSWERS,
    num_questions=5000,
    num_windows=0,
    seed=7,
    stage=Stage(
        name="warmup_vision",
        objective="next_token",
        trains=("vision", "language", "embeddings"),
        num_steps=700,
        batch_size=0,
        num_conversations=64,
        language_weight=1.0,
        learning_rate=8e-4,
        final_learning_rate=1e-5,
        num_warmup_steps=50,
        weight_decay=0.05,
    ),
)
"""Short answers only, from the brain of the first lesson; 20 minutes of one CPU core."""
