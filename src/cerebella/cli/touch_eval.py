"""`cerebella touch eval`: a refiner in simulated trials."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cerebella.cli.output import check_json, write_json
from cerebella.cli.touch_objects import object_names


@dataclass(frozen=True)
class Eval:
    """Measure a touch refiner: random objects' poses, hands and sensors, the errors as only a simulator knows them.

    Prints success per grade with 95 % intervals, in all and per class; the last line is one JSON object.
    """

    policy: Annotated[Positional[Path], arg(metavar="DIR")]
    """directory of a touch policy"""
    world: Literal["skin", "spheres"] = "skin"
    """the contact model of the training, or the other one (many times slower)"""
    goal: Literal["fixed", "random"] = "fixed"
    """the middle of an object's ranges, or drawn like the start"""
    trials: int = 150
    """in all; objects take turns"""
    objects: tuple[str, ...] = ("seen",)
    """names of objects; `seen` and `unseen` stand for the fifteen of the training and the six others"""
    sensor: Literal["nominal", "trained", "wild"] | None = None
    """ranges of the random sensors and joint errors (default: trained in skin, wild in spheres)"""
    max_steps: int = 5
    """wrist moves"""
    handling: Literal["strict", "mask", "lenient"] = "strict"
    """refuse as the loop does by default; blank a dead finger; or refuse only missing contact and dead fingers"""
    fault: str = "none"
    """what breaks between goal and start, e.g. dead_thumb, dead_taxels_20, gain_5, no_object, other_object"""
    seed: int = 0
    """which trials"""
    json: Path | None = None
    """write the whole result, every trial included, to this file"""
    progress: bool = True
    """draw a progress bar"""

    def run(self) -> int:
        """Measure and print."""
        from cerebella.policies.touch_policy import TouchPolicy
        from cerebella.recipes.touch_study.evaluate import evaluate, text_table
        from cerebella.recipes.touch_study.protocol import Protocol

        check_json(self.json)
        protocol = Protocol(
            self.world,
            self.goal,
            self.sensor,
            max_steps=self.max_steps,
            handling=self.handling,
            fault=self.fault,
            seed=self.seed,
        )
        policy = TouchPolicy.load(self.policy)
        about = {"path": str(self.policy), "policy_id": policy.policy_id}
        names = object_names(self.objects)
        result = evaluate(policy, protocol, names, self.trials, about, self.progress)
        print(text_table(result["trials"]))
        write_json(self.json, result)
        print(json.dumps({key: value for key, value in result.items() if key != "trials"}))
        return 0
