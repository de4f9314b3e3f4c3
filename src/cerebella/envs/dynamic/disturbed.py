"""Episodes in which the expert makes mistakes, so that its plans are also known where a learner will get to."""

from collections.abc import Iterator

import numpy as np

from cerebella.envs.dynamic.task import S, Task, concatenate
from cerebella.types import FloatArray

_NOISE_M = 0.002
_BIASES_M = (0.008, 0.025)
_FAULT_TICKS = (4, 14)


def disturbed_episodes(
    task: Task[S], num_episodes: int, generator: np.random.Generator, num_back: int
) -> Iterator[tuple[list[S], FloatArray]]:
    """Run episodes until they end; at every tick, the states up to `num_back` ticks back (newest last), and the styles.

    Half of the episodes have a perturbation. Each scene has its own random demonstrator, and for 4..14 ticks at a time either
    no fault or a wrong aim, by a Gaussian of 8 or 25 mm per position; the aim always has 2 mm of noise. Scenes that ended
    are left out from then on, in the older states as well.
    """
    half = num_episodes // 2
    seeds = generator.integers(0, 2**62, num_episodes)
    state = concatenate([task.reset(seeds[:half], False), task.reset(seeds[half:], True)])
    style = task.random_style(num_episodes, generator)
    is_aim = np.array([d.kind == "position" for d in task.embodiment.actions])
    bias_m = np.zeros((num_episodes, int(is_aim.sum())), dtype=np.float32)
    ticks_left = np.zeros(num_episodes, dtype=np.int32)
    past: list[S] = []
    while len(state):
        past = [*past[-num_back:], state]
        yield past, style
        ended = np.flatnonzero(ticks_left <= 0)
        bias_m[ended] = _new_bias(len(ended), bias_m.shape[1], generator)
        ticks_left[ended] = generator.integers(_FAULT_TICKS[0], _FAULT_TICKS[1] + 1, len(ended))
        ticks_left -= 1
        command = task.expert_command(state, style).copy()
        command[:, is_aim] += bias_m + generator.normal(0.0, _NOISE_M, bias_m.shape).astype(np.float32)
        state = task.step(state, command)
        keep = np.flatnonzero(state.is_running)
        if len(keep) < len(state):
            state, style, bias_m, ticks_left = state.take(keep), style[keep], bias_m[keep], ticks_left[keep]
            past = [older.take(keep) for older in past]


def _new_bias(count: int, width: int, generator: np.random.Generator) -> FloatArray:
    """How far the aim is off for the coming ticks, float32[count, width] metres: not at all in about half of the cases."""
    is_off = generator.random((count, 1)) < 0.5
    size_m = generator.choice(_BIASES_M, (count, 1))
    return np.where(is_off, generator.normal(0.0, 1.0, (count, width)) * size_m, 0.0).astype(np.float32)
