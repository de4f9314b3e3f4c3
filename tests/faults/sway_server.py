"""`cerebella serve` as it is, with a policy that moves: `python sway_server.py hold --embodiment FILE --policy-id NAME ...`.

The policy can be broken while it serves: it does what the file of `--trouble` says at the moment.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from cerebella.cli.serve import Serve
from cerebella.embodiment import Embodiment
from cerebella.runtime.instruments.sway import SwayPolicy
from cerebella.types import ActionChunk, FloatArray, Observation

SLOW_S = 0.24
SHIFT_RAD = 0.3


def _shifted(chunk: ActionChunk) -> ActionChunk:
    chunk.actions[chunk.prefix_length :] += SHIFT_RAD
    return chunk


def _not_a_number(chunk: ActionChunk) -> ActionChunk:
    chunk.actions[-1, 0] = np.nan  # the noun would have refused it when it was made
    return chunk


def _outside(chunk: ActionChunk) -> ActionChunk:
    chunk.actions[-4:] = 50.0
    return chunk


TROUBLES: dict[str, Callable[[ActionChunk], ActionChunk]] = {
    "nan": _not_a_number,
    "zeros": lambda chunk: replace(chunk, actions=np.zeros_like(chunk.actions)),
    "outside": _outside,
    "rows": lambda chunk: replace(chunk, actions=chunk.actions[:-1]),
    "columns": lambda chunk: replace(chunk, actions=np.repeat(chunk.actions, 2, axis=1)),
    "stranger": lambda chunk: replace(chunk, policy_id="stranger"),
    "shift": _shifted,
}


class TroubledPolicy(SwayPolicy):
    """A `SwayPolicy` that does what a file says: a name of `TROUBLES`, or `slow`; sound while the file is empty."""

    def __init__(self, serve: "ServeSway", embodiment: Embodiment) -> None:
        super().__init__(embodiment, serve.horizon, serve.policy_id, serve.infer_s)
        if serve.max_trained_prefix is not None:
            self.metadata = replace(self.metadata, max_trained_prefix=serve.max_trained_prefix)
        self._file = serve.trouble
        self._first_s = serve.first_s

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """See `Policy.infer`."""
        first_s, self._first_s = self._first_s, 0.0
        trouble = "" if self._file is None else self._file.read_text()
        time.sleep(first_s + SLOW_S * (trouble == "slow"))
        chunk = super().infer(observation, action_prefix)
        return TROUBLES[trouble](chunk) if trouble in TROUBLES else chunk


@dataclass(frozen=True)
class ServeSway(Serve):
    """Everything of `cerebella serve`, except for where the policy comes from."""

    policy_id: str = "sway"
    """who the policy says that it is"""
    infer_s: float = 0.02
    """seconds that an answer takes"""
    first_s: float = 0.0
    """what the very first answer takes longer, seconds"""
    max_trained_prefix: int | None = None
    """default: any prefix"""
    trouble: Path | None = None
    """file that says what is wrong at the moment"""
    clock_jumps: bool = False
    """the time of day jumps all the time"""

    def _policy(self) -> SwayPolicy:
        assert self.embodiment is not None
        if self.clock_jumps:
            let_time_of_day_jump(lambda name, value: setattr(time, name, value))
        return TroubledPolicy(self, Embodiment.load(self.embodiment))


def let_time_of_day_jump(patch: Callable[[str, object], None]) -> None:
    """From now on `time.time` and `time.time_ns` are somewhere else every tenth of a second, up to an hour away."""
    jumps_s = (-5, 3600, 10, -10, 0)
    now_s = time.time

    def jumping_s() -> float:
        return now_s() + jumps_s[int(time.monotonic() * 10) % len(jumps_s)]

    patch("time", jumping_s)
    patch("time_ns", lambda: int(jumping_s() * 1e9))


if __name__ == "__main__":
    sys.exit(tyro.cli(ServeSway).run())
