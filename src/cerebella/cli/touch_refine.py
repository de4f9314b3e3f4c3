"""`cerebella touch refine`: one refinement to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Refine:
    """Refine one simulated grasp, and leave the record, the goal, a picture and a film of it.

    The world's frame is that of the object. So the wrist pose in a goal file that this command wrote says where the object
    was; goal files of a robot do not, and are refused.
    """

    policy: Annotated[Positional[Path], arg(metavar="DIR")]
    """directory of a touch policy"""
    object_name: Annotated[str, arg(name="object")]
    """name of the object, e.g. rod_8x120"""
    out: Path
    """folder for goal.json, refinement.json, refinement.png and refinement.mp4"""
    world: Literal["skin", "spheres"] = "skin"
    """the contact model of the training, or the other one"""
    goal: Annotated[str, arg(metavar="FILE|fixed|random")] = "random"
    """a goal file, the middle of the object's ranges, or a random pose"""
    sensor: Literal["nominal", "trained", "wild"] | None = None
    """ranges of the random sensor and joint errors (default: trained in skin, wild in spheres)"""
    max_steps: int = 5
    """wrist moves"""
    seed: int = 0
    """which hand, sensor, start and random goal"""
    video: bool = True
    """write the film as well"""

    def run(self) -> int:
        """Refine and print every step."""
        from cerebella.evaluation.plots import figure_to_png
        from cerebella.policies.touch_policy import TouchPolicy
        from cerebella.recipes.touch_study.examples import refine_example, with_goal
        from cerebella.recipes.touch_study.protocol import Protocol, draw_trial
        from cerebella.recipes.touch_study.tactile_figures import one_refinement
        from cerebella.recipes.touch_study.video import write_film
        from cerebella.touch.goal import Goal
        from cerebella.touch.refinement import describe

        policy = TouchPolicy.load(self.policy)
        shown = Goal.load(self.goal) if self.goal not in ("fixed", "random") else None
        kind = "fixed" if self.goal == "fixed" else "random"
        protocol = Protocol(self.world, kind, self.sensor, max_steps=self.max_steps, seed=self.seed)
        trial = draw_trial(protocol, self.object_name, 0)
        if shown is not None:
            trial = with_goal(trial, shown, self.goal)
        example = refine_example(policy, protocol, trial)
        print(describe(example.refinement))
        self.out.mkdir(parents=True, exist_ok=True)
        written = [self.out / name for name in ("goal.json", "refinement.json", "refinement.png")]
        trial.goal.save(written[0])
        example.refinement.save(written[1])
        written[2].write_bytes(figure_to_png(one_refinement(example)))
        if self.video:
            written.append(write_film(self.out / "refinement.mp4", example))
        for path in written:
            print(f"wrote {path}")
        return 0
