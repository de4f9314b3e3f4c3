"""Latency that repeats: a trace of response times with its seed, so that two executors meet the same bad luck.

Times are log-normal around a median. A stated share of them lies in bursts: runs of slow requests, as a shared link, a
garbage collection or another user's job causes them, and not spread evenly, because a queue survives one slow reply
more easily than four in a row.
"""

import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Self

QUANTILES = (0.5, 0.95, 0.99, 0.999, 1.0)
TRACES = Path(__file__).parent / "traces"
"""Committed traces. `burst_80ms.json` is `generate(BURST_80MS)`, bit for bit."""


@dataclass(frozen=True)
class LatencyLaw:
    """What a trace is drawn from.

    Args:
        seed: of Python's own generator, whose `random()` is the same in every version.
        num_samples: requests; twice a second, 5000 last for 41 minutes.
        median_s: of a calm request. sigma: standard deviation of its logarithm (0.1: about 10 %).
        burst_share: share of the requests that lie in bursts, 0..1; exact up to rounding.
        mean_burst_length: requests; lengths are geometric.
        burst_low_s, burst_high_s: what a request in a burst takes longer, uniform.
    """

    seed: int
    num_samples: int
    median_s: float
    sigma: float
    burst_share: float
    mean_burst_length: float
    burst_low_s: float
    burst_high_s: float

    def __post_init__(self) -> None:
        if self.num_samples < 1 or not self.median_s > 0 or not self.sigma >= 0:
            raise ValueError(f"need num_samples >= 1, median_s > 0 and sigma >= 0; got {self}")
        if not 0 <= self.burst_share < 1 or not self.mean_burst_length >= 1:
            raise ValueError(f"need burst_share in 0..1 and mean_burst_length of 1 or more; got {self}")
        if not 0 <= self.burst_low_s <= self.burst_high_s:
            raise ValueError(f"need 0 <= burst_low_s <= burst_high_s; got {self}")


BURST_80MS = LatencyLaw(
    seed=1,
    num_samples=5000,
    median_s=0.080,
    sigma=0.1,
    burst_share=0.02,
    mean_burst_length=4.0,
    burst_low_s=0.100,
    burst_high_s=0.400,
)


@dataclass(frozen=True)
class LatencyTrace:
    """Response times by number of request; call it with the number: `VirtualTransport`, `ThreadTransport` and the fault
    proxy take such a function.

    Args:
        law: what it was drawn from.
        samples_us: whole microseconds, so that a file holds exactly what is used.
    """

    law: LatencyLaw
    samples_us: tuple[int, ...]

    def __call__(self, number: int) -> float:
        """Seconds of request `number`.

        Raises:
            ValueError: the trace is shorter.
        """
        if not 0 <= number < len(self.samples_us):
            raise ValueError(f"the trace has the requests 0..{len(self.samples_us) - 1}; got {number}")
        return self.samples_us[number] / 1e6

    def quantile_s(self, quantile: float) -> float:
        """The smallest time that this share of the requests does not exceed, seconds; `quantile` in 0..1."""
        rank = math.ceil(quantile * len(self.samples_us)) - 1
        return sorted(self.samples_us)[max(0, rank)] / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the quantiles are for readers."""
        quantiles_ms = {f"p{100 * q:g}": round(1e3 * self.quantile_s(q), 3) for q in QUANTILES}
        return {"law": asdict(self.law), "quantiles_ms": quantiles_ms, "samples_us": list(self.samples_us)}

    def save(self, path: Path | str) -> None:
        """Write a JSON file; equal traces make equal files."""
        Path(path).write_text(json.dumps(self.to_dict(), separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. `TRACES / "burst_80ms.json"` comes with the package.

        Raises:
            FileNotFoundError: there is no such file. ValueError: it is no trace.
        """
        try:
            fields = json.loads(Path(path).read_text())
            trace = cls(LatencyLaw(**fields["law"]), tuple(int(sample) for sample in fields["samples_us"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a latency trace: {type(error).__name__}: {error}") from error
        if len(trace.samples_us) != trace.law.num_samples or min(trace.samples_us) < 0:
            raise ValueError(f"{path} must hold {trace.law.num_samples} samples of 0 us or more")
        return trace


def generate(law: LatencyLaw) -> LatencyTrace:
    """Draw a trace; the same law gives the same numbers."""
    generator = random.Random(law.seed)
    normal = NormalDist(0.0, law.sigma) if law.sigma else None
    samples_us = []
    for is_burst in _bursts(law, generator):
        logarithm = normal.inv_cdf(1.0 - generator.random()) if normal is not None else 0.0
        extra_s = law.burst_low_s + (law.burst_high_s - law.burst_low_s) * generator.random() if is_burst else 0.0
        samples_us.append(round(1e6 * (law.median_s * math.exp(logarithm) + extra_s)))
    return LatencyTrace(law, tuple(samples_us))


def _bursts(law: LatencyLaw, generator: random.Random) -> list[bool]:
    """Which requests lie in a burst: geometric lengths, before calm requests that are drawn without repetition."""
    num_slow = round(law.burst_share * law.num_samples)
    lengths: list[int] = []
    while (missing := num_slow - sum(lengths)) > 0:
        length = 1
        while length < missing and generator.random() >= 1.0 / law.mean_burst_length:
            length += 1
        lengths.append(length)
    num_calm = law.num_samples - num_slow
    if len(lengths) > num_calm:
        raise ValueError(f"{len(lengths)} bursts do not fit between {num_calm} calm requests; raise mean_burst_length")
    keys = [generator.random() for _ in range(num_calm)]
    places = sorted(range(num_calm), key=keys.__getitem__)[: len(lengths)]
    length_before = dict(zip(places, lengths, strict=True))
    is_slow: list[bool] = []
    for index in range(num_calm):
        is_slow += [True] * length_before.get(index, 0) + [False]
    return is_slow
