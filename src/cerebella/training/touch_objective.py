"""The wrist increment between two grasps as a training objective, and how far predictions are from it."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cerebella.batch import TouchBatch
from cerebella.geometry import compose, inverse
from cerebella.models.touch_refiner import TouchRefiner, increments, unpack
from cerebella.touch.grasp import pose_error


def touch_objective(refiner: TouchRefiner, batch: TouchBatch) -> Mapping[str, Tensor]:
    """`loss`, the mean square of the normalised numbers, and its parts `rotation` and `translation`.

    Each part is the mean over its own entries; the loss weighs them 9 to 3. An absolute refiner learns both poses.
    """
    said = refiner(batch.pressures, batch.joints, batch.goal_pressures, batch.goal_joints)
    square = (said - refiner.normalised(_targets(refiner, batch))).square()
    return {
        "loss": square.mean(),
        "rotation": square[..., :9].mean().detach(),
        "translation": square[..., 9:].mean().detach(),
    }


def touch_errors(refiner: TouchRefiner, batch: TouchBatch) -> dict[str, float]:
    """`loss`, and of the pose that the object would have after the predicted motion, against the goal: `error_mm`, `error_deg`
    (means), `p90_mm`, `p90_deg` (quantiles), `start_mm`, `start_deg` (means before the motion).

    The distance is that of the origins of the object's frame, as in the grades of the paper.
    """
    said = refiner(batch.pressures, batch.joints, batch.goal_pressures, batch.goal_joints)
    loss = (said - refiner.normalised(_targets(refiner, batch))).square().mean()
    predicted = increments(refiner.numbers(said).float().cpu().numpy())
    pose, goal = unpack(batch.pose.cpu().numpy()), unpack(batch.goal_pose.cpu().numpy())
    row = {"loss": loss.item()}
    for name, reached in (("error", compose(inverse(predicted), pose)), ("start", pose)):
        distance_m, angle_rad = pose_error(reached, goal)
        row |= {f"{name}_mm": 1e3 * float(distance_m.mean()), f"{name}_deg": math.degrees(angle_rad.mean())}
        if name == "error":
            row |= {"p90_mm": 1e3 * float(np.quantile(distance_m, 0.9))}
            row |= {"p90_deg": math.degrees(np.quantile(angle_rad, 0.9))}
    return row


def _targets(refiner: TouchRefiner, batch: TouchBatch) -> Tensor:
    """float[B, K, 12], as the refiner says it."""
    if refiner.config.target == "increment":
        return batch.increment[:, None]
    return torch.stack([batch.pose, batch.goal_pose], dim=1)
