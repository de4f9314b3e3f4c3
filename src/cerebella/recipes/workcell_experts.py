"""The workcell's tasks, measured one episode at a time: how good and how fast their experts are, and whether random commands
break the simulation. `bench/workcell.py` plays many of them."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.envs.workcell.cell import CONTROL_HZ
from cerebella.envs.workcell.embodiment import SIDES
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks
from cerebella.envs.workcell.moves import pointing_down
from cerebella.evaluation.statistics import wilson_interval
from cerebella.geometry import inverse, so3_log
from cerebella.types import Action, FloatArray

MAX_KEPT_TICKS = 30
"""A random command is kept for 1 .. so many ticks: shorter ones would cancel out, and the arms would go nowhere."""
_LOW_M, _HIGH_M = (0.15, -0.25, 0.0), (0.5, 0.25, 0.15)
"""Corners of the space over the table in which the things are."""


@dataclass(frozen=True)
class ExpertEpisode:
    """One episode of an expert.

    Args:
        is_success: decided, and solved. reason: why it ended; empty if the expert had nothing more to do.
        num_ticks: of 1/30 s. metrics: of the environment at the end.
        cpu_s: CPU seconds of reset, physics and expert, all threads of this process; pictures not included.
        num_pictures, picture_cpu_s: drawn, and the CPU seconds for that.
    """

    task: str
    seed: int
    is_success: bool
    reason: str
    num_ticks: int
    cpu_s: float
    num_pictures: int
    picture_cpu_s: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RandomTicks:
    """Ticks under random commands.

    Args:
        endings: reasons for which episodes were over before the ticks were, and how often.
        num_not_finite: ticks after which a position, velocity or acceleration was NaN or infinite.
        warnings: of MuJoCo, by name and how often. faults: of the environment, by text and how many episodes they ended.
        largest: speeds, see `speed_groups`.
    """

    task: str
    seed: int
    control_mode: str
    num_ticks: int
    endings: Mapping[str, int]
    num_not_finite: int
    warnings: Mapping[str, int]
    faults: Mapping[str, int]
    largest: Mapping[str, float]


def play_expert(environment: WorkcellEnvironment[Any], seed: int, draw_every: int = 0) -> ExpertEpisode:
    """Play one; the expert's style varies with the seed. All views are drawn every `draw_every` ticks, 0 for never."""
    if draw_every:
        environment.reset(seed)
        environment.draw()  # the first one opens OpenGL
    num_ticks = num_pictures = 0
    picture_s, start_s = 0.0, time.process_time()
    for _ in expert_ticks(environment, seed, style_seed=seed):
        if draw_every and num_ticks % draw_every == 0:
            before_s = time.process_time()
            num_pictures += len(environment.draw())
            picture_s += time.process_time() - before_s
        num_ticks += 1
    cpu_s = time.process_time() - start_s - picture_s
    status = environment.status()
    is_success = status.is_done and status.is_success
    return ExpertEpisode(
        environment.task.name,
        seed,
        is_success,
        status.reason,
        num_ticks,
        cpu_s,
        num_pictures,
        picture_s,
        dict(status.metrics),
    )


def play_randomly(environment: WorkcellEnvironment[Any], seed: int, num_ticks: int) -> RandomTicks:
    """Random commands, each kept for a while; over means a new episode.

    Drawn evenly from the whole range of the embodiment; in the control mode `end_effector` every second one points down at a
    place over the table instead, since nearly all poses of the range are far from everything.
    """
    rng = np.random.default_rng(seed)
    data, groups = environment.cell.data, speed_groups(environment.cell.model)
    warnings, faults, endings = Counter[str](), Counter[str](), Counter[str]()
    largest = dict.fromkeys(groups, 0.0)
    num_not_finite = num_kept = 0
    command = np.zeros(environment.embodiment.action_dim, dtype=np.float32)
    environment.reset(seed)
    for _ in range(num_ticks):
        if num_kept == 0:
            num_kept = int(rng.integers(1, MAX_KEPT_TICKS + 1))
            command = _random_command(environment, rng)
        num_kept -= 1
        environment.apply(Action(values=command, tick=environment.cell.tick))
        num_not_finite += not all(np.isfinite(part).all() for part in (data.qpos, data.qvel, data.qacc))
        for name, dofs in groups.items():
            largest[name] = max(largest[name], float(np.abs(data.qvel[dofs]).max()))
        if (status := environment.status()).is_done:
            warnings += _warnings(data)
            faults += Counter([environment.cell.fault] if environment.cell.fault else [])
            endings[status.reason] += 1
            environment.reset(int(rng.integers(2**31)))
    warnings += _warnings(data)
    faults += Counter([environment.cell.fault] if environment.cell.fault else [])
    mode = environment.embodiment.control_mode
    return RandomTicks(
        environment.task.name,
        seed,
        mode,
        num_ticks,
        dict(endings),
        num_not_finite,
        dict(warnings),
        dict(faults),
        largest,
    )


def _random_command(environment: WorkcellEnvironment[Any], rng: np.random.Generator) -> FloatArray:
    if environment.embodiment.control_mode == "joint" or rng.random() < 0.5:
        actions = environment.embodiment.actions
        low, high = (np.array([getattr(d, end) for d in actions]) for end in ("low", "high"))
        return rng.uniform(low, high).astype(np.float32)
    values: list[float] = []
    for side in SIDES:
        T_world_tool = pointing_down(rng.uniform(_LOW_M, _HIGH_M), rng.uniform(-np.pi / 2, np.pi / 2))
        pose = inverse(environment.cell.arm(side).T_world_base) @ T_world_tool
        values += [*pose[:3, 3], *so3_log(pose[:3, :3]), rng.random()]
    return np.array(values, dtype=np.float32)


def speed_groups(model: mujoco.MjModel) -> dict[str, NDArray[np.int64]]:
    """Degrees of freedom by what moves: `arm_rad_s`, `finger_m_s`, `thing_m_s`, `thing_rad_s`; those that a task has."""
    found: dict[str, list[int]] = {}
    for i in range(model.njnt):
        kind, first = int(model.jnt_type[i]), int(model.jnt_dofadr[i])
        is_arm = model.body(model.jnt_bodyid[i]).name.startswith(("left_", "right_"))
        turning, sliding = ("arm_rad_s", "finger_m_s") if is_arm else ("thing_rad_s", "thing_m_s")
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            found.setdefault(sliding, []).extend(range(first, first + 3))
            found.setdefault(turning, []).extend(range(first + 3, first + 6))
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            found.setdefault(turning, []).extend(range(first, first + 3))
        else:
            found.setdefault(turning if kind == mujoco.mjtJoint.mjJNT_HINGE else sliding, []).append(first)
    return {name: np.array(dofs) for name, dofs in found.items()}


def summarise_expert(episodes: Sequence[ExpertEpisode]) -> dict[str, Any]:
    """Success with its Wilson 95 % interval, times, real-time factor (virtual over CPU seconds), and means of the metrics.

    Raises:
        ValueError: no episodes.
    """
    if not episodes:
        raise ValueError("there is no episode to summarise")
    num_successes = sum(episode.is_success for episode in episodes)
    low, high = wilson_interval(num_successes, len(episodes))
    virtual_s = sum(episode.num_ticks for episode in episodes) / CONTROL_HZ
    cpu_s = sum(episode.cpu_s for episode in episodes)
    names = sorted(set[str]().union(*(episode.metrics for episode in episodes)))
    means = {n: float(np.mean([e.metrics[n] for e in episodes if n in e.metrics])) for n in names}
    summary: dict[str, Any] = {
        "episodes": len(episodes),
        "successes": num_successes,
        "rate": num_successes / len(episodes),
        "low": low,
        "high": high,
        "throughput_per_min": 60.0 * num_successes / virtual_s,
        "virtual_s_per_episode": virtual_s / len(episodes),
        "cpu_s_per_episode": cpu_s / len(episodes),
        "real_time_factor": virtual_s / cpu_s,
        "failures": dict(Counter(e.reason or "the expert is at its end" for e in episodes if not e.is_success)),
        "mean_metrics": means,
    }
    if num_pictures := sum(episode.num_pictures for episode in episodes):
        picture_s = sum(episode.picture_cpu_s for episode in episodes) / num_pictures
        summary |= {
            "num_pictures": num_pictures,
            "cpu_ms_per_picture": 1e3 * picture_s,
            "pictures_per_cpu_s": 1.0 / picture_s,
        }
    return summary


def summarise_random(runs: Sequence[RandomTicks]) -> dict[str, Any]:
    """Sums of the counts, and the largest of the speeds.

    Raises:
        ValueError: no runs.
    """
    if not runs:
        raise ValueError("there are no random ticks to summarise")
    names = sorted(set[str]().union(*(run.largest for run in runs)))
    return {
        "ticks": sum(run.num_ticks for run in runs),
        "endings": dict(sum((Counter(run.endings) for run in runs), Counter[str]())),
        "not_finite": sum(run.num_not_finite for run in runs),
        "warnings": dict(sum((Counter(run.warnings) for run in runs), Counter[str]())),
        "faults": dict(sum((Counter(run.faults) for run in runs), Counter[str]())),
        "largest": {name: max(run.largest.get(name, 0.0) for run in runs) for name in names},
    }


def _warnings(data: mujoco.MjData) -> Counter[str]:
    """Since the last reset."""
    kinds = {name: kind.value for name, kind in mujoco.mjtWarning.__members__.items() if name != "mjNWARNING"}
    found = {name.removeprefix("mjWARN_"): int(data.warning[i].number) for name, i in kinds.items()}
    return Counter({name: number for name, number in found.items() if number})
