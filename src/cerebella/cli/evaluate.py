"""`cerebella eval`: measure a policy in a suite."""

import json
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cerebella.cli.errors import check_name
from cerebella.runtime.chunks import check_horizons
from cerebella.runtime.executor_config import Mode


@dataclass(frozen=True)
class Eval:
    """Measure a policy in a suite, on a virtual clock: success with interval, throughput, idle share, seams."""

    suite: Annotated[Positional[str], arg(metavar="SUITE")]
    """e.g. dynamic/conveyor or workcell/belt"""
    policy: Annotated[str, arg(metavar="DIR|HUB_ID|expert|zero")]
    """a policy directory, owner/name on a hub, or one of the built-in policies"""
    mode: Mode | None = None
    """sync waits for each chunk; naive does not; ensemble averages chunks; guided and guided_identity pull each chunk towards
    the running plan, best_of_n takes the nearest of several; prefix lets it continue what is promised (default: prefix; the
    expert of a workcell task acts tick by tick and has no mode)"""
    delay: int | Literal["burst"] | None = None
    """ticks from an observation to the arrival of its chunk; or burst: around 80 ms, with bursts of up to half a second
    (default: 4; the expert of a workcell task has none)"""
    episodes: int = 100
    """number of episodes; the same seed gives the same ones for every policy, mode and delay"""
    seed: int = 0
    """which set of episodes"""
    execute_horizon: int | None = None
    """actions executed before the next chunk takes over (default: the delay and two; in sync half a chunk)"""
    perturbation: bool = False
    """disturb every episode once (dynamic/... only)"""
    randomisation: Literal["none", "mild", "wide"] = "none"
    """of light, colours, camera poses, friction and delay (workcell/... only)"""
    render_px: int | None = None
    """height and width of the pictures that the policy gets, pixels, even: those that it was trained on (workcell/... only;
    default: 224)"""
    batch: int | None = None
    """environments in lock step; changes only the speed (default: 32, of cells with cameras 8)"""
    num_flow_steps: Annotated[int | None, arg(name="flow-steps")] = None
    """Euler steps from noise to actions (default: what the policy's config says)"""
    engine: Literal["readable", "fast"] = "readable"
    """the model as it is written down, or the engine with the same numbers"""
    json: Path | None = None
    """write the whole result, every episode included, to this file"""

    def run(self) -> int:
        """Print the summary as one JSON line."""
        from cerebella.envs.registry import ALL_ENVIRONMENTS
        from cerebella.evaluation.suites import EvalConfig, evaluate

        check_name("suite", self.suite, ALL_ENVIRONMENTS)
        result = evaluate(EvalConfig(**{field.name: getattr(self, field.name) for field in fields(self)}))
        self._warn_of_a_delay_that_does_not_fit(result["conditions"]["cells"][0])
        if self.json is not None:
            print(f"wrote {self.json}")
        print(json.dumps({key: value for key, value in result.items() if key != "episodes"}))
        return 0

    def _warn_of_a_delay_that_does_not_fit(self, cell: dict[str, Any]) -> None:
        """A delay beyond what the horizon covers can be measured, so it is no error; but nobody should overlook it."""
        if cell["mode"] in ("sync", "expert"):
            return
        try:
            check_horizons(math.ceil(cell["delay"]), cell["execute_horizon"], cell["horizon"])
        except ValueError as reason:
            print(f"cerebella eval: note: {reason}", file=sys.stderr)
