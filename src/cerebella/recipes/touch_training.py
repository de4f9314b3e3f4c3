"""Train a touch refiner from a set of grasps, or fine-tune one on another set: from a directory of grasps to a policy directory.

<out>/run/   checkpoints, curves and settings of a training that is not finished; a call goes on from there
<out>/       then the policy, see `policies.touch_policy`
"""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cerebella.embodiment import read_json_object
from cerebella.models.touch_refiner import EncoderName, InputName, TargetName, TouchRefiner, TouchRefinerConfig
from cerebella.policies.touch_policy import TouchPolicy, load_refiner
from cerebella.recipes.touch_files import calibrate, draw_curves, first_grasps, write_card
from cerebella.touch.grasp_shards import GraspSet, Part, load_grasps
from cerebella.touch.pairs import GoalKind, PairSource
from cerebella.touch.sensor import sensor_ranges
from cerebella.training.logs import CURVES, VALIDATION
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import touch_modules
from cerebella.training.sources import TrainingBatch
from cerebella.training.stages import Stage
from cerebella.training.touch_source import GraspPairs

SETTINGS = "settings.json"
SMALLEST_JOINT_SCALE_RAD = 0.01
_HELD_OUT_SEED = 1_000_003
"""Held-out pairs are the same for every run."""
_NOT_SETTINGS = ("num_threads", "save_every", "stop_after", "show_progress")
"""What may differ between the calls that make one policy."""


@dataclass(frozen=True)
class TouchTraining:
    """One refiner.

    Args:
        data: directory of a set of grasps.
        held_out: another set to validate and calibrate with; None holds out shards 0, 10, 20, ... of `data`, which are hands
            of their own.
        objects: names; None is all that the set has.
        num_per_object: use the first so many grasps of each; None is all.
        start_from: policy directory whose weights and normalisation to begin with; None begins from nothing.
        encoder: of the taxel images; `cnn` is the multi-branch network of the paper's first version.
        inputs: `no_touch` and `no_joints` leave something out.
        fingers: indices of those that are read, 0 is the thumb; None is all five.
        target: `absolute` predicts the pose of each grasp and takes the difference.
        width: of the network; with `start_from` all of these must be those of its directory.
        encoder_depth: layers of the encoder.
        num_steps: optimiser steps.
        batch_size: pairs per step.
        learning_rate: peak, after a twentieth of the steps; a cosine takes it to 0.
        weight_decay: AdamW.
        seed: decides the first weights and every draw.
        sensor: name of the ranges that random sensors are drawn from, see `touch.sensor`.
        goal: of the pairs, `random` or `fixed`.
        same_hand: see `touch.pairs`.
        joint_bias_rad: standard deviation of joint errors that both grasps of a pair share.
        joint_noise_rad: standard deviation of those that they do not.
        dead_finger_share: of the pairs, those with a blanked finger.
        num_held_out: pairs of each validation.
        num_calibration: grasps for the embedding, and as many for its quantiles.
        validate_every: steps.
        save_every: steps.
        num_threads: of the CPU.
        stop_after: end after so many steps; the next call continues.

    Raises:
        ValueError: a number out of range, or an unknown name.
    """

    data: Path
    held_out: Path | None = None
    objects: tuple[str, ...] | None = None
    num_per_object: int | None = None
    start_from: Path | None = None
    encoder: EncoderName = "vit"
    inputs: InputName = "all"
    fingers: tuple[int, ...] | None = None
    target: TargetName = "increment"
    width: int = 128
    encoder_depth: int = 1
    num_steps: int = 12_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    sensor: str = "trained"
    goal: GoalKind = "random"
    same_hand: bool = True
    joint_bias_rad: float = math.radians(0.5)
    joint_noise_rad: float = math.radians(0.3)
    dead_finger_share: float = 0.1
    num_held_out: int = 2048
    num_calibration: int = 8192
    validate_every: int = 1000
    save_every: int = 500
    num_threads: int = 1
    stop_after: int | None = None
    show_progress: bool = True

    def __post_init__(self) -> None:
        for name in (
            "num_steps",
            "batch_size",
            "num_held_out",
            "num_calibration",
            "validate_every",
            "save_every",
            "num_threads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        if self.num_per_object is not None and self.num_per_object < 2:
            raise ValueError(f"num_per_object must be 2 grasps or more (a pair); got {self.num_per_object}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0; got {self.learning_rate}")
        sensor_ranges(self.sensor)
        _ = self.stage, self.model_config

    @property
    def stage(self) -> Stage:
        """The one stage of the training."""
        return Stage(
            name="train_touch",
            objective="touch",
            trains=("touch_refiner",),
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            num_warmup_steps=max(1, self.num_steps // 20),
            weight_decay=self.weight_decay,
        )

    @property
    def model_config(self) -> TouchRefinerConfig:
        """The geometry that the options ask for."""
        return TouchRefinerConfig(
            encoder=self.encoder,
            inputs=self.inputs,
            fingers=self.fingers,
            target=self.target,
            width=self.width,
            encoder_depth=self.encoder_depth,
        )

    def to_json(self) -> dict[str, Any]:
        """What decides the result, as JSON has it."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_SETTINGS}
        return json.loads(json.dumps(values, default=str))


def train_touch_refiner(training: TouchTraining, out: Path) -> TouchPolicy | None:
    """Train; what is finished is loaded, what was stopped or killed continues.

    Returns:
        The policy in the directory `out`; None when `stop_after` ended the call before it was finished.

    Raises:
        ValueError: `out` was begun, or finished, with other settings (names them); grasps that cannot be used; or a
            `start_from` of another geometry.
    """
    torch.set_num_threads(training.num_threads)
    settings = training.to_json()
    if (out / "config.json").is_file():
        _check_same(settings, read_json_object(out / "recipe.json").get("settings"), out)
        return TouchPolicy.load(out)
    run = out / "run"
    if (run / SETTINGS).is_file():
        _check_same(settings, read_json_object(run / SETTINGS), out)
    seen, held_out = _source(training, is_held_out=False), _source(training, is_held_out=True)
    model = _first_model(training, seen.pairs.grasps)
    loop = LoopConfig(
        run,
        training.seed,
        save_every=training.save_every,
        validate_every=training.validate_every,
        stop_after=training.stop_after,
        show_progress=training.show_progress,
    )
    run.mkdir(parents=True, exist_ok=True)
    (run / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
    validation = [TrainingBatch(touch=held_out.batch(training.num_held_out, (_HELD_OUT_SEED,)))]
    if not run_stages(touch_modules(model), [seen], [training.stage], loop, validation):
        return None
    policy = TouchPolicy(model, *calibrate(model, seen, held_out, training.num_calibration))
    _write(policy, training, settings, seen.pairs.grasps, out)
    return TouchPolicy.load(out)


def _source(training: TouchTraining, is_held_out: bool) -> GraspPairs:
    directory = training.data
    part: Part = "train"
    if training.held_out is not None:
        directory, part = (training.held_out if is_held_out else training.data), "all"
    elif is_held_out:
        part = "held_out"
    grasps = load_grasps(directory, part, training.objects)
    if training.num_per_object is not None and not is_held_out:
        grasps = first_grasps(grasps, training.num_per_object)
    pairs = PairSource(
        grasps,
        training.goal,
        training.same_hand,
        sensor_ranges(training.sensor),
        training.joint_bias_rad,
        training.joint_noise_rad,
    )
    return GraspPairs(pairs, training.dead_finger_share)


def _first_model(training: TouchTraining, grasps: GraspSet) -> TouchRefiner:
    """The network before the first step of this training."""
    if training.start_from is not None:
        model = load_refiner(training.start_from)
        wanted = asdict(training.model_config)
        differing = [
            f"{name} is {value} there, {wanted[name]} here"
            for name, value in asdict(model.config).items()
            if value != wanted[name]
        ]
        if differing:
            raise ValueError(f"{training.start_from} has another network: {'; '.join(differing)}")
        return model
    torch.manual_seed(training.seed)
    model = TouchRefiner(training.model_config)
    joints = grasps.arrays.joints.astype(np.float64)
    model.set_joint_statistics(joints.mean(axis=0), np.maximum(joints.std(axis=0), SMALLEST_JOINT_SCALE_RAD))
    return model


def _check_same(settings: Mapping[str, Any], found: Any, out: Path) -> None:
    if not isinstance(found, Mapping):
        raise ValueError(f"{out} was made by another recipe; choose another directory")
    differing = [name for name in sorted({*found, *settings}) if found.get(name) != settings.get(name)]
    if differing:
        told = "; ".join(f"{name}: {found.get(name)} there, {settings.get(name)} wanted" for name in differing)
        raise ValueError(f"{out} was begun with other settings ({told}); choose another directory")


def _write(
    policy: TouchPolicy, training: TouchTraining, settings: Mapping[str, Any], grasps: GraspSet, out: Path
) -> None:
    """Everything beside the policy first: a directory with `config.json` is complete."""
    run = out / "run"
    for name in (CURVES, VALIDATION):
        shutil.copyfile(run / name, out / name)
    draw_curves(out / CURVES, out / VALIDATION, out / "curves.png")
    recipe = {
        "recipe": "touch",
        "settings": settings,
        "stages": [{"name": training.stage.name, "fingerprint": training.stage.fingerprint}],
        "num_grasps": len(grasps),
        "objects": list(grasps.objects),
    }
    (out / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
    write_card(out / "README.md", policy, training.stage, grasps, out.name)
    policy.save(out)
    shutil.rmtree(run)
