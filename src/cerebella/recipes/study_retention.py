"""Does the brain keep its understanding? The paper's ablation in small: `pretrain_brain` with and without conversations.

Every cell (arm and training seed) starts from the same brain, learns the task by Choice Policies on the same windows, and
then answers the same held-out questions as the brain before. A cell is a file; a study that was killed goes on with the
next one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.envs.scenes.questions import QuestionSet, make_questions
from cerebella.evaluation.answering import answerer
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.vision_language import VisionLanguageResult, ask, compare
from cerebella.evaluation.vision_language_report import write_retention
from cerebella.models.choice import ChoiceHeads
from cerebella.models.config import preset
from cerebella.policies.stored import as_device, weights_hash
from cerebella.recipes.conveyor import ConveyorSource
from cerebella.recipes.nano import PRETRAIN_BRAIN, Beginning, NanoRecipe, begin, stage_source
from cerebella.recipes.scene_brain import SHORT_ANSWERS
from cerebella.training.loop import LoopConfig, Precision, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import TrainedModules, World
from cerebella.training.sources import Shuffled, StepRequest
from cerebella.training.stages import Stage
from cerebella.training.validation import validate

ARMS: Mapping[str, Stage] = {
    "with VL data": PRETRAIN_BRAIN,
    "without VL data": replace(PRETRAIN_BRAIN, num_conversations=0, language_weight=0.0),
}
SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class RetentionRecipe:
    """What to run.

    Args:
        brain: directory of the brain before. preset: model size, its brain is that of `brain`.
        out: folder for `cells/`, the page and the record.
        seeds: of training (order, heads, windows); the brain before is one and the same.
        num_steps, learning_rate: of every cell; None takes the stage's. num_windows, num_questions: as in the `nano` recipe.
        num_held_out: questions per family. num_held_out_windows: of the task, for the error of the chosen chunk. device, precision, num_threads: as there.
    """

    brain: Path = Path("brains/scenes-nano")
    preset: str = "nano"
    out: Path = Path("outputs/study-retention")
    seeds: tuple[int, ...] = (0, 1, 2)
    num_steps: int | None = None
    learning_rate: float | None = None
    families: tuple[str, ...] = SHORT_ANSWERS
    num_windows: int = 60_000
    num_questions: int = 10_000
    num_held_out: int = 1000
    num_held_out_windows: int = 512
    device: str = "auto"
    precision: Precision = "bfloat16"
    num_threads: int = 2
    show_progress: bool = True


def run(recipe: RetentionRecipe) -> list[Path]:
    """Run what is missing of the study, then write the page; returns the paths written."""
    questions = held_out(recipe)
    cells = [cell_path(recipe, "before", 0)]
    for arm, seed in [("before", 0), *((arm, seed) for seed in recipe.seeds for arm in ARMS)]:
        path = cell_path(recipe, arm, seed)
        if not path.is_file():
            run_cell(recipe, arm, seed, questions)
        cells.append(path)
    return [*dict.fromkeys(cells), *report(recipe, questions)]


def held_out(recipe: RetentionRecipe) -> QuestionSet:
    """The same questions for every cell."""
    return make_questions(recipe.families, recipe.num_held_out, 0, "held_out")


def cell_path(recipe: RetentionRecipe, arm: str, seed: int) -> Path:
    """Where the result of one cell lies."""
    name = arm.replace(" ", "-").lower()
    return recipe.out / "cells" / (f"{name}.json" if arm == "before" else f"{name}-seed-{seed}.json")


def run_cell(recipe: RetentionRecipe, arm: str, seed: int, questions: QuestionSet) -> None:
    """Train and examine one cell; its file appears when it is finished. `before` is the brain as it is."""
    torch.set_num_threads(recipe.num_threads)
    device = as_device(recipe.device)
    start = begin(preset(recipe.preset), recipe.brain, recipe.num_windows, seed)
    model = start.model.to(device)
    record: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "arm": arm, "seed": seed}
    record |= {"brain_weights": weights_hash(recipe.brain), "run": run_fingerprint(seed)}
    path = cell_path(recipe, arm, seed)
    if arm != "before":
        stage = ARMS[arm]
        stage = replace(
            stage,
            num_steps=stage.num_steps if recipe.num_steps is None else recipe.num_steps,
            learning_rate=stage.learning_rate if recipe.learning_rate is None else recipe.learning_rate,
        )
        heads = ChoiceHeads(model.config).to(device)
        modules = trained_modules(model, choice=heads)
        data = NanoRecipe(num_windows=recipe.num_windows, num_questions=recipe.num_questions, seed=seed)
        data = replace(data, families=recipe.families)
        loop = LoopConfig(
            directory=path.with_suffix(""), seed=seed, precision=recipe.precision, show_progress=recipe.show_progress
        )
        run_stages(modules, [stage_source(data, start, stage)], [stage], loop, world=World(0, 1, device))
        record |= {"stage": asdict(stage), "fingerprint": stage.fingerprint}
        record["chosen_error"] = _chosen_error(modules, start, stage, seed, recipe.num_held_out_windows)
    record["result"] = ask(answerer(model, start.talk), questions, 0, batch_size=256).as_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) + "\n")


def report(recipe: RetentionRecipe, questions: QuestionSet) -> list[Path]:
    """`study.json`, `study.md` and one page per seed from the cell files."""
    records = {path: json.loads(path.read_text()) for path in sorted((recipe.out / "cells").glob("*.json"))}
    results = {path: VisionLanguageResult.from_dict(record["result"]) for path, record in records.items()}
    before = results[cell_path(recipe, "before", 0)]
    paths = []
    for seed in recipe.seeds:
        chosen = {"before": before} | {arm: results[cell_path(recipe, arm, seed)] for arm in ARMS}
        page = recipe.out / f"seed-{seed}.html"
        paths += write_retention(page, chosen, run_fingerprint(seed), questions)
    rows = [
        {
            "family": family.family,
            "chance": family.chance,
            "before": family.accuracy,
            "arms": {
                arm: [
                    {"seed": seed, "accuracy": results[cell_path(recipe, arm, seed)].family(family.family).accuracy}
                    | vars(compare(results[cell_path(recipe, arm, seed)], before)[family.family])
                    for seed in recipe.seeds
                ]
                for arm in ARMS
            },
        }
        for family in before.summary
    ]
    errors = {arm: [records[cell_path(recipe, arm, seed)]["chosen_error"] for seed in recipe.seeds] for arm in ARMS}
    study = {"schema_version": SCHEMA_VERSION, "study": "retention", "families": rows, "chosen_error": errors}
    (recipe.out / "study.json").write_text(json.dumps(study, indent=1) + "\n")
    (recipe.out / "study.md").write_text(_table(rows, errors))
    return [recipe.out / "study.json", recipe.out / "study.md", *paths]


def _table(rows: Sequence[Mapping[str, Any]], errors: Mapping[str, Sequence[float]]) -> str:
    """Accuracy in %, mean over seeds; difference to the brain before, mean, and the widest ends of the intervals."""
    lines = ["| family | chance | before | " + " | ".join(f"{arm} | change" for arm in ARMS) + " |"]
    lines.append("|" + "---|" * (3 + 2 * len(ARMS)))
    for row in rows:
        cells = [row["family"], f"{100 * row['chance']:.1f}", f"{100 * row['before']:.1f}"]
        for cell in row["arms"].values():
            accuracy, change = (np.mean([each[name] for each in cell]) for name in ("accuracy", "difference"))
            low, high = min(each["low"] for each in cell), max(each["high"] for each in cell)
            cells += [f"{100 * accuracy:.1f}", f"{100 * change:+.1f} ({100 * low:+.1f} .. {100 * high:+.1f})"]
        lines.append("| " + " | ".join(cells) + " |")
    task = "; ".join(f"{arm} {np.mean(values):.3f}" for arm, values in errors.items())
    return (
        "\n".join([*lines, "", f"Error of the chosen chunk on held-out windows (spreads, mean over seeds): {task}."])
        + "\n"
    )


def _chosen_error(modules: TrainedModules, start: Beginning, stage: Stage, seed: int, num_windows: int) -> float:
    """Mean error of the chunk that the scores choose, on held-out windows of the task, in spreads of the statistics."""
    windows = ConveyorSource(expert_windows(num_windows, start.model.config.horizon, seed=seed + 10_000))
    alone = replace(stage, batch_size=num_windows, num_conversations=0, language_weight=0.0)
    world = World(0, 1, next(start.model.parameters()).device)
    batch = Shuffled(windows, start.processor).draw(StepRequest(alone, 0, (seed,), world))[0]
    errors = validate(modules, batch.to(world.device), alone, seed).row_errors
    assert errors is not None
    return float(errors.nanmean())
