"""The expert of a workcell task, played as it is: tick by tick, without an executor. What is possible without any delay.

It looks at the simulation at every tick and plans no chunks, so that there are no requests, and every observation is new.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cerebella.evaluation.metrics import CommandLog, episode_metrics
from cerebella.evaluation.rollout import Episode
from cerebella.evaluation.summary import Cell
from cerebella.interfaces import PolicyMetadata, Status

MODE = "expert"
"""What a result says instead of an executor's mode."""


def expert_cell(environment: Any) -> Cell:
    """The condition that a `WorkcellEnvironment` and its expert are: no delay, one action at a time."""
    metadata = PolicyMetadata(
        "expert", environment.embodiment, horizon=1, mask_variant=None, max_trained_prefix=0, statistics_hash=""
    )
    return Cell(MODE, delay=0, delay_unit="tick", execute_horizon=1, metadata=metadata)


def play_expert(environment: Any, seeds: Sequence[int], on_episode: Callable[[Episode], None]) -> list[Episode]:
    """An episode of a `WorkcellEnvironment` for each seed, which also decides the expert's style.

    Args:
        on_episode: called as each one ends.
    """
    episodes: list[Episode] = []
    for seed in seeds:
        episodes.append(_episode(environment, seed))
        on_episode(episodes[-1])
    return episodes


def _episode(environment: Any, seed: int) -> Episode:
    from cerebella.envs.workcell.expert_driver import expert_ticks  # loads MuJoCo

    commands = list(expert_ticks(environment, seed, style_seed=seed))
    embodiment, found = environment.embodiment, environment.status()
    # An expert that is at its end without a decision has not solved anything.
    status: Status = found if found.is_done else replace(found, is_success=False, reason="the expert is at its end")
    ticks = np.arange(len(commands))
    log = CommandLog(
        ticks=ticks,
        values=np.array([command.values for command in commands]).reshape(len(commands), embodiment.action_dim),
        is_running=np.ones(len(commands), dtype=np.bool_),
        chunk_id=np.zeros(len(commands), dtype=np.int64),
        observation_tick=ticks,
        is_promised=np.zeros(len(commands), dtype=np.bool_),
        sent_s=ticks / embodiment.control_hz,
        positions=tuple(j for j, d in enumerate(embodiment.actions) if d.kind == "position"),
        control_hz=embodiment.control_hz,
    )
    metrics: dict[str, float | None] = {name: float(value) for name, value in status.metrics.items()}
    metrics |= episode_metrics(log, ())
    metrics |= {"underruns": 0, "num_delay_clamped": 0, "num_untrained": 0, "plan_disagreement_m": None}
    return Episode(seed, environment.episode.prompt, embodiment.name, status, log, (), metrics)
