"""`cerebella touch train`: from a set of grasps to a refiner."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from cerebella.recipes.touch_training import TouchTraining, train_touch_refiner


@dataclass(frozen=True)
class Train:
    """Train a touch refiner on a set of grasps, or fine-tune one; a training that was stopped or killed goes on."""

    out: Path
    """the policy directory to make"""
    training: Annotated[TouchTraining, arg(name="")]

    def run(self) -> int:
        """Print what it can do, and its path."""
        policy = train_touch_refiner(self.training, self.out)
        if policy is None:
            print(f"stopped after {self.training.stop_after} steps; the same command goes on")
            return 0
        numbers = policy.calibration
        for unit in ("mm", "deg"):
            start, mean, p90 = (numbers[f"held_out_{name}_{unit}"] for name in ("start", "error", "p90"))
            print(f"held-out pairs: {start:.2f} {unit} before one prediction, {mean:.2f} after (90 % below {p90:.2f})")
        print(f"wrote {self.out}")
        return 0
