"""How many ticks every reply of an evaluation takes: always the same, spread around a mean, or calm with bursts.

A delay belongs to the number of a request and the seed of its episode, and to nothing that happens in the episode: two
policies or modes on the same seed meet the same luck.
"""

from dataclasses import dataclass

import numpy as np

from cerebella.runtime.delay import to_ticks
from cerebella.runtime.instruments.latency import BURST_80MS, LatencyLaw, generate

BURST = "burst"
_OWN_STREAM = 0xDE1A
"""Behind the seed, so that the place in a trace has nothing to do with what the environment draws from the same seed."""


@dataclass(frozen=True)
class DelayTrace:
    """One row of delays that every episode walks along, each from a place of its own; behind the end it begins anew.

    Args:
        name: for results. ticks: delays of consecutive requests, from the observation to the arrival; 0 or more.
        initial: what an executor promises before it has measured anything, ticks. margin: what it adds to what it has
            measured (`runtime.delay`).

    Raises:
        ValueError: no delay, or a number below 0.
    """

    name: str
    ticks: tuple[int, ...]
    initial: int
    margin: int = 0

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin must be 0 or more ticks; got {self.margin}")
        if not self.ticks or min(self.ticks) < 0 or self.initial < 0:
            lowest = min(self.ticks, default=None)
            raise ValueError(f"a delay must be 0 or more ticks; got {lowest} (initial {self.initial})")

    def __call__(self, seed: int, number: int) -> int:
        """Ticks of request `number` (0, 1, ...) in the episode of `seed` (0 or above)."""
        length = len(self.ticks)
        start = int(np.random.default_rng([seed, _OWN_STREAM]).integers(length)) if length > 1 else 0
        return self.ticks[(start + number) % length]

    @property
    def mean(self) -> float:
        """Ticks."""
        return float(np.mean(self.ticks))


def constant_trace(delay: int, margin: int = 0) -> DelayTrace:
    """The same delay every time. Above 0 the estimator's margin holds from the start."""
    name = f"{delay} {'tick' if delay == 1 else 'ticks'}"
    return DelayTrace(name, (delay,), delay + margin if delay > 0 else 0, margin)


def jitter_trace(mean: int, spread: int, num_requests: int = 5000, seed: int = 0) -> DelayTrace:
    """Uniform whole ticks in mean - spread .. mean + spread, in random order; the mean is exact.

    Raises:
        ValueError: a spread below 0 or above the mean, or too few requests to hold every delay once.
    """
    width = 2 * spread + 1
    if not 0 <= spread <= mean or num_requests < width:
        raise ValueError(f"need 0 <= spread <= mean and {width} requests or more; got {mean}, {spread}, {num_requests}")
    once = np.arange(mean - spread, mean + spread + 1)
    ticks = np.random.default_rng(seed).permutation(np.tile(once, num_requests // width))
    return _measured(f"jitter {mean} +- {spread} ticks", ticks)


def burst_trace(law: LatencyLaw = BURST_80MS, policy_hz: float = 30.0, margin: int = 0) -> DelayTrace:
    """Latencies of `runtime.instruments.latency` in ticks of the policy rate, a part of a tick counted as a whole one.

    The default law is log-normal around 80 ms, and 2 % of the requests lie in bursts that take 100 to 400 ms longer.
    """
    period_s = 1.0 / policy_hz
    trace = generate(law)
    return _measured(BURST, np.array([to_ticks(trace(number), period_s) for number in range(law.num_samples)]), margin)


def _measured(name: str, ticks: np.ndarray, margin: int = 0) -> DelayTrace:
    """A trace whose episodes begin with the promise that a long run would have come to: the 95 % point and a margin."""
    high = int(np.quantile(ticks, 0.95, method="higher"))
    return DelayTrace(name, tuple(ticks.tolist()), high + margin if high else 0, margin)
