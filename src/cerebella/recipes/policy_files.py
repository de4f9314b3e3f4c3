"""What a finished run leaves: a policy directory with its history, a card, and the curves of its training."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA
from cerebella.policies.directory import StageRecord, save_policy
from cerebella.processing.processor import Processor
from cerebella.training.curves import plot_curves
from cerebella.training.logs import CURVES, VALIDATION
from cerebella.training.stages import Stage


def stage_records(config: ModelConfig, stages: Sequence[Stage]) -> list[StageRecord]:
    """The history that the policy directory remembers."""
    return [
        StageRecord(stage.name, stage.num_steps, config.mask_variant, stage.max_prefix, stage.fingerprint)
        for stage in stages
    ]


def save_run(
    out: Path,
    run: Path,
    model: VLA,
    processor: Processor,
    stages: Sequence[StageRecord],
    recipe: Mapping[str, Any],
    card: str,
    dtype: torch.dtype = torch.bfloat16,
) -> list[Path]:
    """Write the policy directory `out` from a finished run in the directory `run`; the paths that are worth a look.

    Of the run, curves, validation rows and the last picture of each held-out set are kept.

    Args:
        dtype: of the stored weights.
    """
    save_policy(out, model, processor, stages, recipe, dtype)
    (out / "README.md").write_text(card)
    shutil.copyfile(run / CURVES, out / CURVES)
    plot_curves(out / CURVES, out / "curves.png")
    paths = [out, out / "curves.png"]
    if (run / VALIDATION).is_file():
        shutil.copyfile(run / VALIDATION, out / VALIDATION)
        paths.append(out / VALIDATION)
    for picture in sorted(run.glob("chunks/*.png")):  # later steps have later names
        shutil.copyfile(picture, out / f"chunk-{picture.stem.rpartition('-')[2]}.png")
    return paths + sorted(out.glob("chunk-*.png"))
