"""Feel a rod, and bring it to where it was felt before, from nothing: half a minute of one CPU core.

python examples/05_touch_refinement.py --out outputs/touch_refinement

Makes a small set of simulated grasps, trains a small refiner on it, and lets it refine one grasp. Prints the true error at every
step, which only a simulator knows, and writes a picture. For a refiner that is worth something: all objects, 150 000 grasps and
12 000 steps, see `cerebella touch data`, `train`, `eval` and `refine`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from cerebella.cli import explain_errors
from cerebella.evaluation.plots import figure_to_png
from cerebella.recipes.touch_study.examples import refine_example
from cerebella.recipes.touch_study.protocol import Protocol, draw_trial
from cerebella.recipes.touch_study.tactile_figures import one_refinement
from cerebella.recipes.touch_training import TouchTraining, train_touch_refiner
from cerebella.touch.grasp_data import GraspPlan, generate
from cerebella.touch.refinement import describe


@dataclass(frozen=True)
class Example:
    """Sizes that a laptop does in two minutes."""

    object_name: str = "rod_8x120"
    num_grasps: int = 1200
    num_steps: int = 400
    seed: int = 3
    """which hand, sensor, start and goal"""
    out: Path = Path("outputs/touch_refinement")


def main(example: Example) -> int:
    """Grasp, train, refine; the exit code."""
    grasps, policy = example.out / "grasps", example.out / "policy"
    # Every shard is another random hand; shard 0 is held out.
    generate(grasps, GraspPlan(objects=(example.object_name,), num_grasps=example.num_grasps, shard_size=100))
    training = TouchTraining(
        grasps,
        encoder="mlp",
        width=64,
        num_steps=example.num_steps,
        batch_size=128,
        validate_every=100,
        num_held_out=512,
        num_calibration=2048,
    )
    refiner = train_touch_refiner(training, policy)
    assert refiner is not None
    # A hand that the training has not seen: it was shown the goal, and then the object slipped.
    protocol = Protocol(world="skin", goal="random", seed=example.seed)
    done = refine_example(refiner, protocol, draw_trial(protocol, example.object_name, 0))
    print(describe(done.refinement))
    picture = example.out / "refinement.png"
    picture.write_bytes(figure_to_png(one_refinement(done)))
    print(f"wrote {picture}")
    return 0


if __name__ == "__main__":
    chosen = tyro.cli(Example)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
