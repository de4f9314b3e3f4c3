"""One evaluation: a policy in a suite, one mode at one delay, on the virtual clock; a result out.

A suite is a name and a way to make its environments. Policies come from a directory, or by name: `expert` (knows the true
state: what is possible at this delay) and `zero` (holds still: what nothing at all achieves). A policy whose embodiment has
no camera gets the scene as numbers, and no picture is drawn; so do the two by name.

The expert of a workcell task plans no chunks, and is played without an executor (`workcell_expert`).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from tqdm import tqdm

from cerebella.embodiment import Embodiment
from cerebella.envs.registry import (
    WORKCELL_ENVIRONMENTS,
    check_environment,
    lockstep_environments,
    make_environment,
)
from cerebella.envs.workcell.tasks import make_task
from cerebella.evaluation.delays import BURST, DelayTrace, burst_trace, constant_trace
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.result import check_can_write, make_result, write_result
from cerebella.evaluation.rollout import Episode, PolicySource, rollout_virtual
from cerebella.evaluation.summary import Cell, episode_rows, summarise
from cerebella.evaluation.workcell_expert import expert_cell, play_expert
from cerebella.interfaces import Environment, Policy, PolicyMetadata
from cerebella.runtime.chunks import check_execute_horizon
from cerebella.runtime.drive import check_embodiment
from cerebella.runtime.executor_config import MODES, ExecutorConfig, Mode, check_mode, default_execute_horizon

ENGINES = ("readable", "fast")
NAMED_POLICIES = ("expert", "zero")
ZERO_HORIZON = 16
DEFAULT_MODE, DEFAULT_DELAY = "prefix", 4
DEFAULT_BATCH, DEFAULT_CAMERA_CELLS = 32, 8
"""Environments in lock step: any, and cells with cameras. Each of those takes 90 MB, most of it for its graphics."""
RANDOMISATIONS = ("none", "mild", "wide")
"""Of the workcell's tasks: the names of their presets, which cannot be read without MuJoCo."""
DEFAULT_RENDER_PX, MIN_RENDER_PX = 224, 16
_MAX_TICKS = 10_000
_FIRST_SEED = 1_000_000
"""Episodes of an evaluation start here, far from the seeds that a recipe would use."""


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate.

    Args:
        suite: an environment, e.g. `dynamic/conveyor` or `workcell/belt`.
        policy: a policy directory, or one of `expert`, `zero`.
        mode: one of `executor_config.MODES`; `DEFAULT_MODE` if left out.
        delay: ticks between every observation and the arrival of its reply; or `burst`: around 80 ms, with bursts;
            `DEFAULT_DELAY` if left out.
        episodes: how many; the same seed gives the same ones for every policy, mode and delay.
        seed: which set of episodes.
        execute_horizon: actions executed before the next chunk takes over; if left out, `default_execute_horizon` of a delay that nearly all replies keep.
        perturbation: disturb each episode once, e.g. by a sudden belt speed, or a bump against the part; dynamic tasks only.
        randomisation: of light, colours, cameras, friction and delay from episode to episode, one of `RANDOMISATIONS`; workcell
            tasks only.
        render_px: height and width at which a cell's cameras are drawn for a policy that looks at them, even;
            `DEFAULT_RENDER_PX` if left out. It should be what the policy was trained on.
        batch: environments in lock step; only the speed depends on it. `DEFAULT_BATCH`, or `DEFAULT_CAMERA_CELLS`, if left
            out.
        num_flow_steps: Euler steps of a policy directory's model, 1 or more; its own number if left out.
        engine: `readable` or `fast`; the numbers are the same up to rounding.
        json: write the result here.

    The expert of a workcell task has no executor, so that mode, delay, horizon and batch are left out, or say so: delay 0,
    horizon 1 and batch 1.
    """

    suite: str
    policy: str
    mode: str | None = None
    delay: int | Literal["burst"] | None = None
    episodes: int = 100
    seed: int = 0
    execute_horizon: int | None = None
    perturbation: bool = False
    randomisation: Literal["none", "mild", "wide"] = "none"
    render_px: int | None = None
    batch: int | None = None
    num_flow_steps: int | None = None
    engine: Literal["readable", "fast"] = "readable"
    json: Path | None = None

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be run."""
        check_environment(self.suite)
        _check_name("mode", self.mode or DEFAULT_MODE, MODES)
        if self.episodes < 1:
            raise ValueError(f"episodes must be 1 or more; got {self.episodes}")
        delay_trace(DEFAULT_DELAY if self.delay is None else self.delay)
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be 1 or more environments; got {self.batch}")
        self._check_environment_settings()
        if self.is_direct:
            for name, neutral in _DIRECT.items():
                if (given := getattr(self, name)) not in (None, neutral):
                    raise ValueError(
                        f"the expert of {self.suite} acts tick by tick, without an executor: {name} {given!r} means "
                        f"nothing here; leave it out"
                    )
        if self.num_flow_steps is not None and self.num_flow_steps < 1:
            raise ValueError(f"num_flow_steps must be 1 or more; got {self.num_flow_steps}")
        if self.num_flow_steps is not None and self.policy in NAMED_POLICIES:
            raise ValueError(f"the policy {self.policy!r} has no flow steps (num_flow_steps is {self.num_flow_steps})")
        if self.engine not in ENGINES or (self.engine != ENGINES[0] and self.policy in NAMED_POLICIES):
            raise ValueError(
                f"engine is {self.engine!r} for the policy {self.policy!r}; known: {', '.join(ENGINES)} for a policy "
                f"directory, {ENGINES[0]} for {', '.join(NAMED_POLICIES)}"
            )
        episode_seeds(self.seed, self.episodes)

    def _check_environment_settings(self) -> None:
        is_cell = self.suite in WORKCELL_ENVIRONMENTS
        if self.perturbation and is_cell:
            raise ValueError(f"{self.suite} has no perturbation; only the dynamic tasks have")
        _check_name("randomisation", self.randomisation, RANDOMISATIONS)
        if self.randomisation != RANDOMISATIONS[0] and not is_cell:
            raise ValueError(
                f"{self.suite} has no randomisation {self.randomisation!r}; only the workcell's tasks have"
            )
        if self.render_px is None:
            return
        if not is_cell:
            raise ValueError(
                f"{self.suite} has pictures of one size (render_px is {self.render_px}); only the workcell's cameras can "
                "be drawn at another"
            )
        if self.policy in NAMED_POLICIES:
            raise ValueError(f"the policy {self.policy!r} looks at no pictures (render_px is {self.render_px})")
        if self.render_px < MIN_RENDER_PX or self.render_px % 2:
            raise ValueError(
                f"render_px must be an even number of pixels, {MIN_RENDER_PX} or more; got {self.render_px}"
            )

    @property
    def is_direct(self) -> bool:
        """The expert of a workcell task: it is played without an executor."""
        return self.policy == "expert" and self.suite in WORKCELL_ENVIRONMENTS


_DIRECT = {"mode": None, "delay": 0, "execute_horizon": 1, "batch": 1}
"""The fields of `EvalConfig` that belong to an executor, and what says the same as having none."""


@dataclass(frozen=True)
class _Played:
    """What an evaluation has done.

    Args:
        met: kind and values of the delays. render_px: of the workcell's pictures; None if none were drawn.
        loaded_s: when the first episode began.
    """

    cell: Cell
    episodes: Sequence[Episode]
    met: tuple[str, Sequence[float]]
    batch: int
    render_px: int | None
    loaded_s: float


def evaluate(config: EvalConfig, show_progress: bool = True) -> dict[str, Any]:
    """Run an evaluation and return its result (the schema of `result`); also written to `config.json` if that is set.

    Raises:
        ValueError: an unknown name, or a policy that does not fit the suite or the mode.
        FileNotFoundError: no such policy directory.
        InferenceFailure: the policy's answers were refused five times in a row.
    """
    start_s = time.monotonic()
    if config.json is not None:
        check_can_write(config.json)
    run = run_fingerprint(config.seed)
    played = (_play_expert if config.is_direct else _play_policy)(config, show_progress)
    ended_s = time.monotonic()
    cell, metadata = played.cell, played.cell.metadata
    task = config.suite.rpartition("/")[2]  # the same, whether pictures or numbers were looked at
    episodes = [replace(episode, task=task) for episode in played.episodes]
    num_ticks = sum(episode.log.num_ticks for episode in episodes)
    kind, delays = played.met
    summary = summarise(cell, episodes, on_wall_clock=False)
    summary["seconds_per_episode"] = num_ticks / metadata.embodiment.control_hz / len(episodes)
    result = make_result(
        suite=config.suite,
        policy=policy_block(config.policy, metadata),
        run=run,
        conditions={
            "mode": cell.mode,
            "clock": "virtual",
            "rates": rates(metadata.embodiment),
            "delay_trace": [{"cell": cell.name, "kind": kind, "unit": "tick", "values": list(delays)}],
            "cells": [cell.as_dict()],
            "perturbation": config.perturbation,
            "randomisation": config.randomisation,
            "render_px": played.render_px,
            "batch": played.batch,
            "num_flow_steps": config.num_flow_steps,
            "engine": config.engine,
        },
        episodes=episode_rows(cell, episodes),
        summary=[summary],
        timing={
            "total_s": ended_s - start_s,
            "load_s": played.loaded_s - start_s,
            "rollout_s": ended_s - played.loaded_s,
            "ticks_per_s": num_ticks / max(ended_s - played.loaded_s, 1e-9),
        },
    )
    if config.json is not None:
        write_result(config.json, result)
    return result


def _play_policy(config: EvalConfig, show_progress: bool) -> _Played:
    """Under an executor."""
    mode = config.mode or DEFAULT_MODE
    delay = DEFAULT_DELAY if config.delay is None else config.delay
    blind = make_environment(config.suite, with_images=False)
    source, metadata = open_policy(config.policy, blind, config.num_flow_steps, config.engine)
    has_views, is_cell = bool(metadata.embodiment.views), config.suite in WORKCELL_ENVIRONMENTS
    if config.render_px is not None and not has_views:
        raise ValueError(f"the policy {config.policy!r} looks at no pictures (render_px is {config.render_px})")
    options: dict[str, Any] = {"perturbation": config.perturbation}
    render_px = None
    if is_cell:
        options = {"control_mode": metadata.embodiment.control_mode, "randomisation": config.randomisation}
        if has_views:
            render_px = config.render_px or DEFAULT_RENDER_PX
            options["render_size"] = (render_px, render_px)
    make = lockstep_environments(config.suite, with_images=has_views, **options)
    check_policy(metadata, make().embodiment, mode)
    trace = delay_trace(delay)
    execute_horizon = config.execute_horizon
    if execute_horizon is None:
        execute_horizon = default_execute_horizon(mode, trace.initial, metadata.horizon)
    check_execute_horizon(execute_horizon, metadata.horizon)
    executor = executor_config(mode, execute_horizon)
    cell = Cell(
        mode=mode,
        delay=delay if isinstance(delay, int) else trace.mean,
        delay_unit="tick",
        execute_horizon=executor.execute_horizon,
        metadata=metadata,
        trace="" if isinstance(delay, int) else trace.name,
    )
    batch = config.batch or (DEFAULT_CAMERA_CELLS if is_cell and has_views else DEFAULT_BATCH)
    loaded_s = time.monotonic()
    with tqdm(total=config.episodes, desc=cell.name, unit="episode", disable=not show_progress) as bar:
        episodes = rollout_virtual(
            source,
            make,
            executor,
            trace,
            episode_seeds(config.seed, config.episodes),
            batch=batch,
            max_ticks=make_task(config.suite).max_ticks if is_cell else _MAX_TICKS,
            on_episode=_progress(bar),
        )
    met = ("constant", [delay]) if isinstance(delay, int) else ("trace", _met(trace, episodes))
    return _Played(cell, episodes, met, batch, render_px, loaded_s)


def _play_expert(config: EvalConfig, show_progress: bool) -> _Played:
    """The expert of a workcell task, without an executor."""
    environment = make_environment(config.suite, with_images=False, randomisation=config.randomisation)
    cell = expert_cell(environment)
    loaded_s = time.monotonic()
    with tqdm(total=config.episodes, desc=config.policy, unit="episode", disable=not show_progress) as bar:
        episodes = play_expert(environment, episode_seeds(config.seed, config.episodes), _progress(bar))
    return _Played(cell, episodes, ("constant", [0]), 1, None, loaded_s)


def open_policy(
    name: str,
    environment: Environment,
    num_flow_steps: int | None = None,
    engine: Literal["readable", "fast"] = "readable",
) -> tuple[PolicySource, PolicyMetadata]:
    """A policy by name or directory, and what it says about itself.

    The expert reads the true state, so it is made anew for each environment; every other policy serves all of them.

    Args:
        name: `expert`, `zero`, a directory, or `owner/name` on a hub. num_flow_steps, engine: of a policy directory; see
            `load_policy`.
    """
    if name == "expert":
        make_expert = _expert_factory(environment)
        return make_expert, make_expert(environment).metadata
    is_hub_name = name.count("/") == 1 and name[0] not in "./~"
    if name != "zero" and not is_hub_name and not Path(name).exists():
        raise FileNotFoundError(
            f"there is no policy directory {name!r}; give a directory, owner/name on a hub, or one of: "
            f"{', '.join(NAMED_POLICIES)}"
        )
    from cerebella.policies import HoldPolicy, load_policy  # loads torch, which the expert does not need

    if name == "zero":
        policy = HoldPolicy(environment.embodiment, ZERO_HORIZON)
    elif _acts_from_states(Path(name)):
        from cerebella.policies.state_policy import StatePolicy

        if engine != ENGINES[0]:
            raise ValueError(f"engine is {engine!r}, but {name} acts from state vectors, which is {ENGINES[0]} only")
        policy = StatePolicy.load(Path(name), num_flow_steps)
    else:
        policy = load_policy(name, num_flow_steps=num_flow_steps, engine=engine)
    return policy, policy.metadata


def needs_pictures(name: str) -> bool:
    """Whether the policy called `name` (see `open_policy`; also `hold`) looks at camera pictures, so far as one can tell here."""
    return name not in (*NAMED_POLICIES, "hold") and not _acts_from_states(Path(name))


def embodiment_in(directory: Path) -> Embodiment | None:
    """The robot that a policy directory was made for; None if its files do not say."""
    file = directory / "embodiment.json"
    return Embodiment.load(file) if file.is_file() else None


def _acts_from_states(directory: Path) -> bool:
    robot = embodiment_in(directory)
    return robot is not None and not robot.views


def executor_config(mode: str, execute_horizon: int) -> ExecutorConfig:
    """How an evaluation runs chunks: a broken policy is told, and a mode stays what it is, however long the delay.

    Values far outside their range are limited and not refused: a policy that has learnt little is bad, not broken.
    """
    return ExecutorConfig(
        as_mode(mode), execute_horizon, max_consecutive_failures=5, degrade_after=None, max_outside=math.inf
    )


def check_policy(metadata: PolicyMetadata, robot: Embodiment, mode: str) -> None:
    """Refuse a policy that was made for another robot, or that cannot be run in this mode.

    Raises:
        ValueError: with the reason.
    """
    check_embodiment(metadata.embodiment, robot)
    check_mode(mode, metadata)


def delay_trace(delay: int | Literal["burst"]) -> DelayTrace:
    """The delays that `EvalConfig.delay` stands for.

    Raises:
        ValueError: a negative number of ticks, or another word than `burst`.
    """
    if isinstance(delay, str):
        if delay != BURST:
            raise ValueError(f"delay must be a number of ticks, or {BURST!r}; got {delay!r}")
        return burst_trace()
    return constant_trace(delay)


def episode_seeds(seed: int, num_episodes: int) -> list[int]:
    """The seeds of an evaluation's episodes; sets of different `seed` (0 or more) do not overlap.

    Raises:
        ValueError: a negative seed, or more episodes than a set has.
    """
    if seed < 0 or not 0 <= num_episodes <= _FIRST_SEED:
        raise ValueError(f"need seed >= 0 and 0..{_FIRST_SEED} episodes; got seed {seed} and {num_episodes} episodes")
    return [_FIRST_SEED * (seed + 1) + i for i in range(num_episodes)]


def policy_block(path: str, metadata: PolicyMetadata) -> dict[str, Any]:
    """The `policy` block of a result."""
    if path in NAMED_POLICIES:
        return {"path": path, "weights_hash": None, "policy_id": metadata.policy_id}
    weights_hash = metadata.policy_id.rpartition("@")[2]
    return {"path": path, "weights_hash": weights_hash, "policy_id": metadata.policy_id}


def rates(embodiment: Embodiment) -> dict[str, float]:
    """The `conditions.rates` block of a result."""
    return {"policy_hz": embodiment.policy_hz, "control_hz": embodiment.control_hz}


def as_mode(name: str) -> Mode:
    """The mode of that name; a ValueError lists the known ones."""
    _check_name("mode", name, MODES)
    return cast(Mode, name)


def _check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def _met(trace: DelayTrace, episodes: Sequence[Episode]) -> list[int]:
    """The delay of every request, in the order of the episodes."""
    return [trace(episode.seed, number) for episode in episodes for number in range(len(episode.requests))]


def _progress(bar: Any) -> Callable[[Episode], None]:
    num_solved = 0

    def update(episode: Episode) -> None:
        nonlocal num_solved
        num_solved += episode.status.is_success
        bar.update()
        bar.set_postfix_str(f"{num_solved} solved", refresh=False)

    return update


def _expert_factory(environment: Environment) -> Callable[[Environment], Policy]:
    from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert

    def make(target: Environment) -> Policy:
        if not isinstance(target, DynamicEnvironment):
            raise ValueError(
                f"there is no expert for {type(target).__name__} that plans chunks; the experts of workcell tasks act "
                "tick by tick: see cerebella eval workcell/... --policy expert"
            )
        return DynamicExpert(target)

    make(environment)
    return make
