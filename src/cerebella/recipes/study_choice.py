"""Choice Policies against a single L1 regression on a task with two modes: one command, resumable, as found.

The same brain, heads, data, order and number of steps; only the number of candidates differs (N against 1). Each law of
`envs.dynamic.two_ways_data`, method and seed is a cell and a file; what is compared is always the candidate that the
score head picks, on held-out windows. `study_choice_cells` says what is measured.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from cerebella.envs.dynamic.two_ways import TWO_WAYS, TwoWaysConfig
from cerebella.envs.dynamic.two_ways_data import MODE_LAWS, PROMPT, ModeLaw, TwoWaysWindows, two_ways_windows
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.models.choice import NUM_CANDIDATES, ChoiceHeads, propose
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA
from cerebella.processing.actions import to_relative
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import measure_statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.study_choice_cells import (
    FORMAT,
    METHODS,
    CellName,
    Proposals,
    both_ways,
    examples,
    fingerprint,
    make_cell,
    measure,
    read_cell,
    summarise,
)
from cerebella.recipes.study_choice_report import plot_examples, plot_measures, table
from cerebella.training.choice_objective import collapse_message
from cerebella.training.durable_files import write_durably
from cerebella.training.loop import ALONE, LoopConfig, Precision, run_stages
from cerebella.training.objectives import choice_heads_of, model_of, trained_modules
from cerebella.training.parallel import TrainedModules, World
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage

Device = Literal["cpu", "auto"]
_LOG = logging.getLogger(__name__)
_WINDOWS_AT_ONCE = 250


@dataclass(frozen=True)
class StudyChoiceRecipe:
    """The whole study.

    Args:
        out: folder for `cells/`, `study.json`, `study.md` and the pictures.
        laws: which way the expert takes, see `two_ways_data`. seeds: windows, initial weights and order of training.
        preset: model size. horizon: rows of a chunk. num_candidates: N of Choice Policies, 2 or more.
        num_steps, batch_size, learning_rate: of every cell, whatever its method.
        num_windows: training windows. num_held_out: windows that are measured, the same for all cells of a law.
        held_out_seed: decides them; none of `seeds`.
        precision: of the forward pass. device: `auto` takes a GPU if there is one. num_threads: threads of the CPU.
        save_every: steps between two checkpoints of a cell.
        stop_after: end after so many new cells; the next call continues.
        show_progress: draw progress bars.

    Raises:
        ValueError: a law is unknown, a law or seed comes twice, or a number is out of range.
    """

    out: Path = Path("outputs/study-choice")
    laws: tuple[ModeLaw, ...] = ("even", "mostly_left", "shorter")
    seeds: tuple[int, ...] = (0, 1, 2)
    preset: str = "micro"
    horizon: int = 16
    num_candidates: int = NUM_CANDIDATES
    num_steps: int = 450
    batch_size: int = 16
    learning_rate: float = 6e-4
    num_windows: int = 20_000
    num_held_out: int = 1000
    held_out_seed: int = 1_000_000
    precision: Precision = "bfloat16"
    device: Device = "cpu"
    num_threads: int = 1
    save_every: int = 150
    stop_after: int | None = None
    show_progress: bool = True

    def __post_init__(self) -> None:
        if unknown := [law for law in self.laws if law not in MODE_LAWS]:
            raise ValueError(f"unknown law {unknown[0]!r}; known laws: {', '.join(MODE_LAWS)}")
        for name in ("laws", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be one or more different values; got {values}")
        if min(self.seeds) < 0 or self.held_out_seed in self.seeds:
            raise ValueError(
                f"seeds must be 0 or above and none the held_out_seed {self.held_out_seed}; got {self.seeds}"
            )
        if self.num_candidates < 2:
            raise ValueError(
                f"num_candidates must be 2 or more (1 is what it is compared to); got {self.num_candidates}"
            )
        if self.stop_after is not None and self.stop_after < 1:
            raise ValueError(f"stop_after must be 1 or more cells; got {self.stop_after}")

    @property
    def stage(self) -> Stage:
        """What every cell trains. The prompt never changes, so its embeddings and the vision tower stay as they are."""
        return Stage(
            name="pretrain_brain",
            objective="choice",
            trains=("language",),
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            num_warmup_steps=self.num_steps // 10,
            weight_decay=0.02,
        )

    def cells(self) -> Iterator[CellName]:
        """All cells, a whole seed after the other."""
        yield from (CellName(law, method, seed) for seed in self.seeds for law in self.laws for method in METHODS)


def run(recipe: StudyChoiceRecipe) -> list[Path]:
    """Run the study, or continue it; returns the paths written.

    A cell that is there is read, not trained again; a killed cell loses at most `save_every` steps.

    Raises:
        ValueError: a cell in `out` was made with other settings.
    """
    torch.set_num_threads(recipe.num_threads)
    world = ALONE
    if recipe.device == "auto" and torch.cuda.is_available():
        world = World(0, 1, torch.device("cuda", torch.cuda.current_device()))
    folder = recipe.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    names, cells, written = list(recipe.cells()), [], []
    # Read first: settings that do not fit are an error now, not after an hour.
    found = {str(name): _read(recipe, world, name) for name in names}
    for name in (bar := tqdm(names, desc="cells", unit="cell", disable=not recipe.show_progress)):
        bar.set_postfix_str(str(name))
        cell = found[str(name)]
        if cell is None:
            if len(written) == recipe.stop_after:
                bar.close()
                return written
            cell = _train_cell(recipe, world, name)
            written.append(_path(recipe, name))
        cells.append(cell)
    return [folder, *_write_summary(recipe, cells)]


def settings_of(recipe: StudyChoiceRecipe, world: World, name: CellName) -> dict[str, Any]:
    """What decides the numbers of a cell, as JSON gives it back."""
    values = {
        "preset": recipe.preset,
        "horizon": recipe.horizon,
        "num_candidates": recipe.num_candidates if name.method == "choice" else 1,
        "num_windows": recipe.num_windows,
        "num_held_out": recipe.num_held_out,
        "held_out_seed": recipe.held_out_seed,
        "precision": recipe.precision,
        "device": world.device.type,
        "stage": asdict(recipe.stage),
        "task": asdict(TwoWaysConfig()),
    }
    return json.loads(json.dumps(values))


def make_processor(config: ModelConfig, windows: TwoWaysWindows) -> Processor:
    """Tokenizer from the one prompt, statistics from the windows."""
    states = windows.scenes.proprioception
    relative = to_relative(TWO_WAYS, windows.actions, states)
    text = robot_prompt(TWO_WAYS.views, PROMPT)
    return Processor(
        embodiment=TWO_WAYS,
        statistics=measure_statistics(relative, states, TWO_WAYS.name, TWO_WAYS.control_mode),
        tokenizer=train_tokenizer([text], vocab_size=config.brain["text_config"]["vocab_size"]),
        images=ImageConfig(patch_size=config.brain["vision_config"]["patch_size"]),
        horizon=config.horizon,
        model_state_dim=config.state_dim,
        model_action_dim=config.action_dim,
    )


@torch.no_grad()
def propose_all(
    modules: TrainedModules, processor: Processor, windows: TwoWaysWindows, precision: Precision, device: torch.device
) -> Proposals:
    """All candidates for all windows, in pieces, in the precision of training."""
    model, heads = model_of(modules), choice_heads_of(modules)
    candidates, scores = [], []
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        indices = np.arange(start, min(start + _WINDOWS_AT_ONCE, len(windows)))
        batch = processor.encode_samples(windows.samples(indices)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            proposed, predicted_errors = propose(model, heads, batch)
        candidates.append(proposed.float().cpu())
        scores.append(predicted_errors.float().cpu())
    proposed, states = torch.cat(candidates), windows.scenes.proprioception
    modes = both_ways(windows.scenes, processor.horizon)
    return Proposals(
        actions_m=np.stack([processor.decode(each, states) for each in proposed.unbind(dim=1)], axis=1),
        actions=proposed.numpy()[..., processor.action_slots],
        picked=torch.cat(scores).argmin(dim=1).numpy(),
        modes=np.stack(
            [
                processor.statistics.normalize_actions(to_relative(TWO_WAYS, modes[:, side], states))
                for side in range(modes.shape[1])
            ],
            axis=1,
        ),
    )


def _train_cell(recipe: StudyChoiceRecipe, world: World, name: CellName) -> dict[str, Any]:
    """Train, measure, write the file; its checkpoints go when it is there."""
    settings = settings_of(recipe, world, name)
    config = preset(recipe.preset, horizon=recipe.horizon)
    windows = two_ways_windows(name.law, recipe.num_windows, recipe.horizon, name.seed)
    processor = make_processor(config, windows)
    torch.manual_seed(name.seed)
    model = VLA(config)
    # The same attention written out: its backward pass is much cheaper on a CPU at these lengths than the fused one.
    model.brain.set_attn_implementation("eager")
    modules = trained_modules(model, choice=ChoiceHeads(config, settings["num_candidates"]))
    # The fingerprint keeps half a cell of other settings from being continued.
    folder = recipe.out / "cells" / f"{name}-{fingerprint(settings)}"
    loop = LoopConfig(
        directory=folder,
        seed=name.seed,
        precision=recipe.precision,
        save_every=recipe.save_every,
        keep=1,
        show_progress=recipe.show_progress,
    )
    run_stages(modules, [Shuffled(windows, processor)], (recipe.stage,), loop, world=world)
    held_out = two_ways_windows(name.law, recipe.num_held_out, recipe.horizon, recipe.held_out_seed)
    proposals = propose_all(modules, processor, held_out, recipe.precision, world.device)
    measures, per_window = measure(held_out, name.law, proposals)
    collapse = collapse_message({f"win_{i}": share for i, share in enumerate(measures["win_shares"])})
    if collapse is not None:
        _LOG.warning("%s, held-out windows: %s", name, collapse)
    made_by = run_fingerprint(name.seed)
    cell = make_cell(name, settings, made_by, collapse, measures, per_window, examples(held_out, proposals))
    shutil.copyfile(folder / "curves.jsonl", _path(recipe, name).with_suffix(".curves.jsonl"))
    write_durably(_path(recipe, name), json.dumps(cell) + "\n")
    shutil.rmtree(folder)
    return cell


def _read(recipe: StudyChoiceRecipe, world: World, name: CellName) -> dict[str, Any] | None:
    """The cell if its file is there."""
    path = _path(recipe, name)
    return read_cell(path, name, settings_of(recipe, world, name)) if path.is_file() else None


def _path(recipe: StudyChoiceRecipe, name: CellName) -> Path:
    return recipe.out / "cells" / f"{name}.json"


def _write_summary(recipe: StudyChoiceRecipe, cells: list[dict[str, Any]]) -> list[Path]:
    """`study.json`, `study.md` and the pictures."""
    summary = summarise(cells)
    described = asdict(replace(recipe, stop_after=None))
    del described["out"], described["stop_after"], described["show_progress"]
    study = {
        **FORMAT.constants,
        "recipe": json.loads(json.dumps(described)),
        "run": run_fingerprint(recipe.seeds[0]),
        "cells": {str(CellName(c["law"], c["method"], c["seed"])): c["fingerprint"] for c in cells},
        **summary,
    }
    paths = [recipe.out / name for name in ("study.json", "study.md", "candidates.png", "measures.png")]
    write_durably(paths[0], json.dumps(study, indent=1, allow_nan=False) + "\n")
    paths[1].write_text(table(summary))
    paths[2].write_bytes(plot_examples([cell for cell in cells if cell["seed"] == recipe.seeds[0]]))
    paths[3].write_bytes(plot_measures(summary))
    return paths
