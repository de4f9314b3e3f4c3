"""The whole recipe of Xiaomi-Robotics-0 at 5 million parameters: three stages, from generated data to a policy that acts.

It starts from a brain that sees (`scene_brain`; a published one in real life). `pretrain_brain` teaches it the task by
Choice Policies and keeps it answering questions by the next-token loss on conversations, six robot windows to one
conversation; `pretrain_cerebellum` trains the diffusion transformer on the frozen brain; `posttrain_async` trains both behind
action prefixes. Before and after, the brain answers the same held-out questions; at the end the policy drives the task.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from cerebella.envs.dynamic.conveyor import CONVEYOR, ConveyorState
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.envs.dynamic.windows import Windows
from cerebella.envs.scenes.dialogues import Dialogues, make_dialogues
from cerebella.envs.scenes.questions import QuestionSet, make_questions
from cerebella.evaluation.answering import answerer
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.suites import EvalConfig, evaluate
from cerebella.evaluation.vision_language import VisionLanguageResult, ask
from cerebella.evaluation.vision_language_report import write_retention
from cerebella.models.checkpoint import load_brain
from cerebella.models.choice import ChoiceHeads
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table
from cerebella.policies.brain import read_brain
from cerebella.policies.directory import save_policy
from cerebella.policies.stored import as_device, weights_hash
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.processor import Processor
from cerebella.recipes.conveyor import STAGES as CONVEYOR_STAGES
from cerebella.recipes.conveyor import ConveyorSource, make_processor, stage_records
from cerebella.recipes.scene_brain import SHORT_ANSWERS
from cerebella.training.curves import plot_curves
from cerebella.training.loop import LoopConfig, Precision, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import World
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage

PRETRAIN_BRAIN = Stage(
    name="pretrain_brain",
    objective="choice",
    trains=("vision", "language"),
    num_steps=700,
    batch_size=66,
    num_conversations=11,
    language_weight=1.0,
    learning_rate=1e-3,
    weight_decay=0.02,
)
"""Six robot windows to one conversation, as in the paper."""
PRETRAIN_CEREBELLUM, POSTTRAIN_ASYNC = (
    replace(stage, num_steps=steps) for stage, steps in zip(CONVEYOR_STAGES[1:], (450, 550), strict=True)
)
"""As for the shipped policy, shorter."""
SUITE = "dynamic/conveyor"
CELLS = (("prefix", 0), ("naive", 4), ("prefix", 4))
"""(mode, delay in ticks) of the evaluation at the end."""


@dataclass(frozen=True)
class NanoRecipe:
    """A complete run.

    Args:
        brain: directory of the brain to start from.
        out: the policy directory to write.
        preset: model size; its brain is that of `brain`.
        seed: decides data, initial weights and every draw.
        num_windows: expert windows of the task, 30 Hz. committed_share: share of those behind a prefix that an older
            plan promised.
        num_questions: per family, of training scenes; asked four to a picture. families: what is asked.
        num_held_out: questions per family, before and after.
        episodes: of the task at the end, per mode and delay; 0 leaves that out.
        device: `auto` takes a GPU if there is one. precision: of the forward pass. num_threads: of the CPU.
        save_every: steps between two checkpoints.
    """

    brain: Path = Path("brains/scenes-nano")
    out: Path = Path("outputs/policies/conveyor-nano")
    preset: str = "nano"
    seed: int = 0
    num_windows: int = 200_000
    committed_share: float = 0.4
    num_questions: int = 10_000
    families: tuple[str, ...] = SHORT_ANSWERS
    num_held_out: int = 200
    episodes: int = 128
    device: str = "cpu"
    precision: Precision = "bfloat16"
    num_threads: int = 2
    save_every: int = 250
    show_progress: bool = True
    stages: tuple[Stage, ...] = (PRETRAIN_BRAIN, PRETRAIN_CEREBELLUM, POSTTRAIN_ASYNC)


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a run starts with: a model with the given brain and a fresh cerebellum, and the data of the task.

    Args:
        processor: of the task. talk: of conversations. windows: of the task.
    """

    model: VLA
    processor: Processor
    talk: ConversationProcessor
    windows: Windows[ConveyorState]


def train(recipe: NanoRecipe) -> list[Path]:
    """Run (or continue) the recipe; returns the paths written.

    Until the policy is finished, checkpoints and examinations lie in `<out>/run/`.
    """
    torch.set_num_threads(recipe.num_threads)
    device = as_device(recipe.device)
    start = begin(_config(recipe), recipe.brain, recipe.num_windows, recipe.seed)
    model, run = start.model.to(device), recipe.out / "run"
    questions = make_questions(recipe.families, recipe.num_held_out, recipe.seed, "held_out")
    results = {"before": _examined(run / "before.json", start, questions, recipe.seed)}
    modules = trained_modules(model, choice=ChoiceHeads(model.config).to(device))
    for index, stage in enumerate(recipe.stages):
        loop = LoopConfig(
            directory=run / f"{index}-{stage.name}",
            seed=recipe.seed + 1000 * index,
            precision=recipe.precision,
            save_every=recipe.save_every,
            show_progress=recipe.show_progress,
        )
        run_stages(modules, [stage_source(recipe, start, stage)], [stage], loop, world=World(0, 1, device))
        if stage.trains_brain:
            path = run / f"{index}-{stage.name}.json"
            results[f"after {stage.name}"] = _examined(path, start, questions, recipe.seed)
    save_policy(recipe.out, model, start.processor, stage_records(model.config, recipe.stages), describe(recipe))
    paths = _report(recipe, results, questions)
    shutil.rmtree(run)
    return [recipe.out, *paths]


def begin(config: ModelConfig, brain: Path, num_windows: int, seed: int) -> Beginning:
    """A model with a brain that exists, its cerebellum drawn by `seed`, and windows of the task.

    Raises:
        FileNotFoundError, ValueError: see `policies.brain.read_brain`.
    """
    files = read_brain(brain, config)
    windows = expert_windows(num_windows, config.horizon, seed=seed)
    processor = make_processor(config, CONVEYOR, windows, files.tokenizer)
    torch.manual_seed(seed)
    model = VLA(config)
    load_brain(model, brain)
    return Beginning(model, processor, ConversationProcessor(files.tokenizer, files.images), windows)


def stage_source(recipe: NanoRecipe, start: Beginning, stage: Stage) -> Shuffled:
    """Expert windows and, where the stage wants them, conversations about training scenes."""
    windows = start.windows
    if stage.max_prefix:
        windows = expert_windows(
            recipe.num_windows,
            start.model.config.horizon,
            seed=recipe.seed + 1,
            committed_share=recipe.committed_share,
            max_delay=stage.max_prefix,
        )
    talk: Dialogues | None = None
    if stage.num_conversations:
        talk = make_dialogues(make_questions(recipe.families, recipe.num_questions, recipe.seed, "train"))
    return Shuffled(ConveyorSource(windows), start.processor, talk, start.talk)


def _examined(path: Path, start: Beginning, questions: QuestionSet, seed: int) -> VisionLanguageResult:
    """The answers of the brain as it is now, kept in a file so that a resumed run need not ask again."""
    if path.is_file():
        return VisionLanguageResult.from_dict(json.loads(path.read_text()))
    result = ask(answerer(start.model, start.talk), questions, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.as_dict()))
    return result


def _report(recipe: NanoRecipe, results: dict[str, VisionLanguageResult], questions: QuestionSet) -> list[Path]:
    """Curves, the examinations, and how the policy drives the task."""
    run, out = recipe.out / "run", recipe.out
    names = [f"{index}-{stage.name}" for index, stage in enumerate(recipe.stages)]
    (out / "curves.jsonl").write_text("".join((run / name / "curves.jsonl").read_text() for name in names))
    plot_curves(out / "curves.jsonl", out / "curves.png")
    facts = {**run_fingerprint(recipe.seed), "weights": weights_hash(out)}
    paths = [out / "curves.png", *write_retention(out / "examination.html", results, facts, questions)]
    lines = []
    for mode, delay in CELLS if recipe.episodes else ():
        path = out / f"eval-{mode}-{delay}.json"
        config = EvalConfig(SUITE, str(out), mode, delay, recipe.episodes, recipe.seed, json=path)
        row = evaluate(config, recipe.show_progress)["summary"][0]
        low, high = 100 * row["low"], 100 * row["high"]
        lines.append(f"| {delay} | `{mode}` | {row['successes']}/{row['episodes']} | {low:.1f} .. {high:.1f} % |")
        paths.append(path)
    (out / "README.md").write_text(model_card(recipe, lines))
    return paths


def describe(recipe: NanoRecipe) -> dict[str, object]:
    """The recipe as JSON, without where and how fast it was run; with the hash of the brain's weights."""
    fields = asdict(recipe)
    for name in ("out", "show_progress", "num_threads"):
        del fields[name]
    brain = {"brain": recipe.brain.name, "brain_weights": weights_hash(recipe.brain)}
    return {"recipe": "nano", **json.loads(json.dumps(fields, default=str)), **brain}


def _config(recipe: NanoRecipe) -> ModelConfig:
    """Under the attention rule of the paper."""
    return preset(recipe.preset).with_mask("lambda")


def model_card(recipe: NanoRecipe, success: Sequence[str]) -> str:
    """What the policy directory's README says; `success`: rows of its table."""
    config = _config(recipe)
    stages = "\n".join(
        f"| `{stage.name}` | {', '.join(stage.trains)} | {stage.num_steps} | {stage.batch_size} | "
        f"{stage.num_conversations or 'none'} | {stage.fingerprint} |"
        for stage in recipe.stages
    )
    table = "\n".join(["| delay, ticks | mode | picked | 95 % interval |", "|---|---|---|---|", *success])
    return f"""# {recipe.out.name}

A {parameter_table(config).total / 1e6:.1f} M parameter vision-language-action policy (`{config.name}`, attention rule
`{config.mask_variant}`, horizon {config.horizon}) for the simulated task `{SUITE}`, trained by the three stages of
Xiaomi-Robotics-0 from the brain `{recipe.brain.name}`. It has never seen a real robot and is of no use for one.

| stage | trains | steps | windows per step | conversations | fingerprint |
|---|---|---|---|---|---|
{stages}

{table if success else "The task was not driven."}

What the brain still sees after each stage is in `examination.html`. ![loss curves](curves.png)

Train it again: `cerebella train nano --seed {recipe.seed}`. License: Apache-2.0.
"""
