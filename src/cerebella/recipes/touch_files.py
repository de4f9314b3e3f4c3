"""What goes into and comes out of the training of a touch refiner beside the network: grasps, calibration, curves, card."""

import json
from dataclasses import fields, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from cerebella.batch import TouchBatch
from cerebella.geometry import so3_log
from cerebella.models.touch_refiner import TouchRefiner, unpack
from cerebella.policies.touch_embedding import TouchEmbedding
from cerebella.policies.touch_policy import TouchPolicy
from cerebella.touch.confidence import DISTANCE_LIMIT, MAX_DEAD_FINGERS
from cerebella.touch.grasp_shards import GraspArrays, GraspSet
from cerebella.touch.reading import MAX_COUNT, CountArray
from cerebella.training.stages import Stage
from cerebella.training.touch_objective import touch_errors
from cerebella.training.touch_source import GraspPairs
from cerebella.types import FloatArray

_NUM_TESTED = 2048
_LIMIT_QUANTILE = 0.999
_QUANTILES = {"distance_q50": 0.5, "distance_q99": 0.99, DISTANCE_LIMIT: _LIMIT_QUANTILE}


def first_grasps(grasps: GraspSet, num_per_object: int) -> GraspSet:
    """The first grasps of every object, shard after shard; a shard of which a single one would be left is left out.

    Raises:
        ValueError: an object has fewer.
    """
    rows, sizes, objects = [], [], []
    left = dict.fromkeys(range(len(grasps.objects)), num_per_object)
    for shard, index in enumerate(grasps.object_of_shard.tolist()):
        start, end = grasps.starts[shard : shard + 2].tolist()
        size = min(end - start, left[index])
        if size < 2:
            continue
        left[index] -= size
        rows.append(np.arange(start, start + size))
        sizes.append(size)
        objects.append(index)
    if lacking := [grasps.objects[index] for index, count in left.items() if count > 1]:
        raise ValueError(f"there are fewer than {num_per_object} grasps of {', '.join(lacking)}")
    chosen = np.concatenate(rows)
    arrays = GraspArrays(**{f.name: getattr(grasps.arrays, f.name)[chosen] for f in fields(GraspArrays)})
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return replace(grasps, starts=starts, object_of_shard=np.array(objects, dtype=np.int64), arrays=arrays)


@torch.inference_mode()
def calibrate(
    model: TouchRefiner, seen: GraspPairs, held_out: GraspPairs, num: int
) -> tuple[TouchEmbedding, dict[str, float]]:
    """The embedding of a trained refiner, and the numbers that a confidence check needs, all from random sensors.

    The centres of the embedding come from grasps of the training, its quantiles from grasps that were held out:
    `distance_limit` is the length of an embedding that one held-out grasp in a thousand exceeds. Others: errors of one step on
    held-out pairs, the largest increments of the training, with how many dead fingers it was trained.
    """
    model.eval()
    measured, fresh = seen.batch(num, (1,)), held_out.batch(num, (2,))
    mean, scale = model.joint_mean.numpy().copy(), model.joint_scale.numpy().copy()
    embedding = TouchEmbedding.measure(*_readings(measured), mean, scale)
    distances = np.linalg.norm(embedding.embed(*_readings(fresh)), axis=1)
    sizes = unpack(measured.increment.numpy())
    numbers = {name: float(np.quantile(distances, share)) for name, share in _QUANTILES.items()}
    numbers[MAX_DEAD_FINGERS] = 1.0 if seen.dead_finger_share > 0 else 0.0
    numbers["largest_increment_m"] = float(np.linalg.norm(sizes[:, :3, 3], axis=1).max())
    numbers["largest_increment_rad"] = float(np.linalg.norm(so3_log(sizes[:, :3, :3]), axis=1).max())
    errors = touch_errors(model, fresh[slice(0, _NUM_TESTED)])
    return embedding, numbers | {f"held_out_{name}": value for name, value in errors.items()}


def _readings(batch: TouchBatch) -> tuple[CountArray, FloatArray]:
    """Counts and joints of the current grasps."""
    return (batch.pressures * MAX_COUNT).round().to(torch.uint8).numpy(), batch.joints.numpy()


def draw_curves(curves: Path, validation: Path, picture: Path) -> None:
    """The loss of the training with that of the validation, and the errors in mm and degrees, as PNG."""
    trained, held_out = ([json.loads(line) for line in path.read_text().splitlines()] for path in (curves, validation))
    figure, (losses, distances, angles) = plt.subplots(1, 3, figsize=(10.5, 3.0))
    steps = [row["train_step"] for row in held_out]
    losses.plot([row["train_step"] for row in trained], [row["loss"] for row in trained], linewidth=1, label="training")
    losses.plot(steps, [row["loss"] for row in held_out], "o-", markersize=3, linewidth=1, label="held out")
    for panel, unit in ((distances, "mm"), (angles, "deg")):
        panel.plot(steps, [row[f"start_{unit}"] for row in held_out], "k:", linewidth=1, label="before the motion")
        for name, label in (("error", "mean after it"), ("p90", "90 % below")):
            panel.plot(steps, [row[f"{name}_{unit}"] for row in held_out], "o-", markersize=3, linewidth=1, label=label)
    for panel, title in ((losses, "loss"), (distances, "held out, mm"), (angles, "held out, degrees")):
        panel.set_title(title, fontsize=9)
        panel.set_yscale("log")
        panel.tick_params(which="both", labelsize=7)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.supxlabel("train step", fontsize=9)
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    plt.close(figure)


def write_card(path: Path, policy: TouchPolicy, stage: Stage, grasps: GraspSet, name: str) -> None:
    """The README of a policy directory."""
    config, numbers = policy.model.config, policy.calibration
    num_parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    path.write_text(
        f"""# {name}

A touch refiner: from what five fingertips of {config.num_rows} x {config.num_columns} taxels feel now and felt in a goal, and
the {config.num_joints} joints of the hand both times, to how the wrist must move. Encoder `{config.encoder}`, inputs
`{config.inputs}`, target `{config.target}`, {num_parameters / 1e6:.2f} M parameters.

Trained for {stage.num_steps} steps of {stage.batch_size} pairs on {len(grasps)} simulated grasps of {len(grasps.objects)}
objects: {", ".join(grasps.objects)}. It has never felt a real one.

| on held-out pairs | mean | 90 % below | before the motion |
|---|---|---|---|
| distance | {numbers["held_out_error_mm"]:.2f} mm | {numbers["held_out_p90_mm"]:.2f} mm | {numbers["held_out_start_mm"]:.2f} mm |
| angle | {numbers["held_out_error_deg"]:.2f} deg | {numbers["held_out_p90_deg"]:.2f} deg | {numbers["held_out_start_deg"]:.2f} deg |

![curves](curves.png)

One prediction, no loop, random sensors. `recipe.json` has every setting, `calibration.json` the numbers of the confidence
check. License: Apache-2.0.
"""
    )
