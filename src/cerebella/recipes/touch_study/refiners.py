"""The refiners of the study as predictors: trained if they are not yet there, or loaded, or a bank of grasps."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cerebella.embodiment import read_json_object
from cerebella.policies.touch_neighbours import TouchNeighbours
from cerebella.policies.touch_policy import TouchPolicy
from cerebella.recipes.touch_files import first_grasps
from cerebella.recipes.touch_study.policies import MAIN, NEIGHBOURS, entrant
from cerebella.recipes.touch_study.protocol import SENSOR_OF
from cerebella.recipes.touch_study.study import TouchStudy
from cerebella.recipes.touch_training import TouchTraining, train_touch_refiner
from cerebella.touch.grasp_shards import load_grasps
from cerebella.touch.refinement_steps import Predictor
from cerebella.touch.sensor import sensor_ranges

_BANK_SEED = 5


def directory(study: TouchStudy, policy: str) -> Path:
    """Where a refiner lies, or will."""
    if policy == MAIN and study.refiner is not None:
        return study.refiner
    return study.out / "policies" / policy


def training_of(study: TouchStudy, policy: str) -> TouchTraining:
    """How a refiner is trained."""
    who = entrant(policy)
    changes = dict(who.changes)
    if who.kind == "tuned":
        num = -(-int(policy.rpartition("_")[2]) // len(study.objects))
        changes = {
            "data": study.sphere_data,
            "start_from": directory(study, MAIN),
            "num_per_object": max(2, num),
            "learning_rate": study.tune_learning_rate,
            "sensor": SENSOR_OF["spheres"],
            **_network(study),
        }
    settings: dict[str, Any] = {
        "data": study.data,
        "objects": study.objects,
        "width": study.width,
        "num_steps": {"main": study.num_steps, "tuned": study.tune_steps}.get(who.kind, study.ablation_steps),
        "batch_size": study.batch_size,
        "learning_rate": study.learning_rate,
        "dead_finger_share": study.dead_finger_share,
        "seed": study.seed,
        "num_held_out": study.num_held_out,
        "num_calibration": study.num_calibration,
        "validate_every": study.validate_every,
        "save_every": study.save_every,
        "show_progress": study.show_progress,
    }
    return TouchTraining(**{**settings, **changes})


def settings_of(study: TouchStudy, policy: str) -> dict[str, Any]:
    """What decides a refiner, for the cells.

    Raises:
        FileNotFoundError: the directory that was given is not there.
    """
    if entrant(policy).kind == "neighbours":
        return {"bank_per_object": study.bank_per_object, "data": str(study.data), "objects": list(study.objects)}
    if policy == MAIN and study.refiner is not None:
        return {"directory": study.refiner.name, "made_by": read_json_object(study.refiner / "recipe.json")["settings"]}
    settings = training_of(study, policy).to_json()
    if entrant(policy).kind == "tuned":
        settings["start_from"] = settings_of(study, MAIN)  # what it is, not where it lies
    return settings


def load(study: TouchStudy, policy: str) -> tuple[Predictor, str]:
    """(the refiner, its id), trained now if it has to be.

    Raises:
        ValueError: there are no grasps to train on, or the directory was made with other settings.
    """
    if entrant(policy).kind == "neighbours":
        return bank(study), NEIGHBOURS
    if policy == MAIN and study.refiner is not None:
        loaded = TouchPolicy.load(study.refiner)
    else:
        if entrant(policy).kind == "tuned":
            load(study, MAIN)
        loaded = train_touch_refiner(training_of(study, policy), directory(study, policy))
        assert loaded is not None  # nothing stops it
    return loaded, loaded.policy_id


def bank(study: TouchStudy) -> TouchNeighbours:
    """Grasps of the training, each felt by a random sensor."""
    grasps = load_grasps(study.data, "train", study.objects)
    num = min(study.bank_per_object, int(np.bincount(grasps.object_index).min()))
    grasps = first_grasps(grasps, num)
    rng = np.random.default_rng(_BANK_SEED)
    counts = sensor_ranges(SENSOR_OF["skin"]).draw(rng, len(grasps)).counts(grasps.arrays.forces, rng)
    poses = grasps.arrays.T_wrist_object.astype(np.float64)
    return TouchNeighbours(counts, grasps.arrays.joints, poses, grasps.object_index)


def training_row(study: TouchStudy, policy: str, trained: Predictor, cpu_s: float) -> dict[str, Any]:
    """The row of a training's cell."""
    assert isinstance(trained, TouchPolicy)
    training = training_of(study, policy)
    recipe = read_json_object(directory(study, policy) / "recipe.json")
    return {
        "object": "",
        "number": 0,
        "num_parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "num_steps": training.num_steps,
        "batch_size": training.batch_size,
        "num_grasps": recipe["num_grasps"],
        "calibration": {name: value for name, value in trained.calibration.items() if math.isfinite(value)},
        "training_cpu_s": round(cpu_s, 1),
    }


def _network(study: TouchStudy) -> dict[str, Any]:
    """The geometry of the main refiner, which its fine-tuning must have too."""
    if study.refiner is None:
        return {}
    made_by = read_json_object(study.refiner / "recipe.json")["settings"]
    names = ("encoder", "inputs", "fingers", "target", "width", "encoder_depth")
    return {name: tuple(v) if isinstance(v := made_by[name], list) else v for name in names if name in made_by}
