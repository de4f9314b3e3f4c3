"""`cerebella touch study`: the whole study of tactile refinement."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from cerebella.recipes.touch_study.study import TouchStudy


@dataclass(frozen=True)
class Study:
    """Plan, run, or write up the study of tactile refinement: baselines, the other world, faults, disturbances."""

    study: Annotated[TouchStudy, arg(name="")]

    def run(self) -> int:
        """Do it; prints the paths that were written."""
        from cerebella.recipes.touch_study.run import run

        for path in run(self.study):
            print(f"wrote {path}")
        return 0
