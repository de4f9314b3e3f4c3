"""Before anything moves: do latency, horizons and training fit each other, and if not, which knob turns it right?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cerebella.interfaces import PolicyMetadata
from cerebella.runtime.delay import to_ticks
from cerebella.runtime.executor_config import ExecutorConfig


@dataclass(frozen=True)
class Violation:
    """One inequality that does not hold.

    Args:
        inequality: with the numbers in it. knob: what to change, and to what. is_fatal: the mode cannot work at all.
    """

    inequality: str
    knob: str
    is_fatal: bool

    def __str__(self) -> str:
        return f"{self.inequality}: {self.knob}"


def preflight(
    metadata: PolicyMetadata, config: ExecutorConfig, latencies_s: Sequence[float], quantile: float = 0.95
) -> list[Violation]:
    """What does not fit; empty if all does.

    With r the delay in ticks at `quantile` of the latencies, s the execute horizon, H the horizon:

    - r <= s: one inference at a time keeps up with the requests;
    - s <= H - r: the plan lasts until the answer is there;
    - r <= longest trained prefix (mode `prefix`): the hand-over lies in rows that the policy learned to continue.

    Args:
        latencies_s: whole round trips, seconds, warm-up calls left out; at least one.
    """
    if not len(latencies_s):
        raise ValueError("preflight needs at least one measured latency, in seconds")
    if config.mode == "sync":
        return []
    policy_hz = metadata.embodiment.policy_hz
    latency_s = float(np.quantile(np.asarray(latencies_s), quantile, method="higher"))
    r, s, horizon = to_ticks(latency_s, 1.0 / policy_hz), config.execute_horizon, metadata.horizon
    what = f"delay r = {r} ticks (p{quantile * 100:g} latency {latency_s * 1e3:.0f} ms at {policy_hz:g} Hz)"
    faster = "make the inference faster (engine, fewer flow steps, smaller pictures, a nearer server)"
    violations: list[Violation] = []
    if 2 * r > horizon:
        knob = f"no execute_horizon fits; {faster}, use a policy with a longer horizon, or mode sync"
        return [Violation(f"{what} > H / 2 = {horizon / 2:g}", knob, is_fatal=True)]
    if r > s:
        violations.append(
            Violation(f"{what} > execute_horizon s = {s}", f"raise execute_horizon to {r} .. {horizon - r}", False)
        )
    if s > horizon - r:
        knob = f"lower execute_horizon to {r} .. {horizon - r}"
        violations.append(Violation(f"execute_horizon s = {s} > H - r = {horizon} - {r} = {horizon - r}", knob, False))
    if config.mode == "prefix" and r > metadata.max_trained_prefix:
        knob = f"{faster}, or post-train with prefixes of up to {r} rows"
        violations.append(Violation(f"{what} > longest trained prefix = {metadata.max_trained_prefix}", knob, False))
    return violations
