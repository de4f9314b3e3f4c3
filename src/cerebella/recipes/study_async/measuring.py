"""One policy, trained and driven: what turns a name into the numbers of a cell."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.lockstep import Lockstep
from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.evaluation.delays import DelayTrace, burst_trace, constant_trace
from cerebella.evaluation.rollout import Episode, rollout_virtual
from cerebella.evaluation.suites import check_policy, episode_seeds, executor_config
from cerebella.interfaces import Policy
from cerebella.models.action_model import ActionModel
from cerebella.policies.state_policy import StatePolicy
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.recipes.pixel_training import PixelTraining, train_pixel_policy
from cerebella.recipes.state_training import VARIANTS, StateTraining, train_state_policy
from cerebella.recipes.study_async.cells import Name, PolicyName, RolloutName, TrapName
from cerebella.recipes.study_async.measures import measure, reactions
from cerebella.recipes.study_async.methods import METHODS
from cerebella.recipes.study_async.recipe import BURST, StudyAsyncRecipe
from cerebella.recipes.study_async.trap import CONFLICT_M, WINDOW_SEED, measure_trap
from cerebella.recipes.study_cells import fingerprint
from cerebella.training.logs import CURVES

BATCH = 32
"""Environments in lock step. It takes part in rounding, so it belongs to the settings."""
_SIZES = ("num_windows", "base_steps", "variant_steps", "batch_size", "width", "warmup_steps")
_NO_SETTING = ("task", "num_threads", "save_every", "stop_after")


@dataclass(frozen=True)
class Bench:
    """What turns names into numbers.

    Args:
        recipe: the study. tasks: by short name. episodes: by short name, a fingerprint of how the expert's episodes end, which
            changes when the task does.
    """

    recipe: StudyAsyncRecipe
    tasks: Mapping[str, Task[Any]]
    episodes: Mapping[str, str]

    @property
    def with_images(self) -> bool:
        """Whether policies act from pictures."""
        return self.recipe.observation == "pixels"

    def robot(self, task: str) -> Embodiment:
        """What policies of a task are made for."""
        return self.tasks[task].embodiment if self.with_images else self.tasks[task].state_embodiment

    def training(self, policy: PolicyName) -> StateTraining | PixelTraining:
        """How a policy is trained."""
        sizes = {name: value for name in _SIZES if (value := getattr(self.recipe, name)) is not None}
        longest = min(StateTraining.max_prefix, policy.horizon // 2)  # no promise is longer than half a chunk
        kind = PixelTraining if self.with_images else StateTraining
        return kind(
            task=self.tasks[policy.task],
            horizon=policy.horizon,
            variant=policy.variant,
            seed=policy.seed,
            max_prefix=longest,
            save_every=self.recipe.save_every,
            **sizes,
        )

    def settings(self, name: Name) -> dict[str, Any]:
        """What decides the numbers of a cell."""
        method = None if isinstance(name, PolicyName) else METHODS[name.method]
        variant = name.variant if isinstance(name, PolicyName) else METHODS[name.method].variant
        training = self.training(PolicyName(name.task, name.horizon, variant, name.seed))
        found = {f.name: getattr(training, f.name) for f in fields(training) if f.name not in _NO_SETTING}
        settings: dict[str, Any] = {
            "task": {"name": training.task.name, "episodes": self.episodes[name.task]},
            "training": {**found, "variant": {"name": variant, **asdict(VARIANTS[variant])}},
        }
        if method is not None:
            settings["mode"] = method.mode
        if isinstance(name, RolloutName):
            trace = delay_trace(name.delay, METHODS[name.method].margin)
            settings |= {
                "delay": {"name": trace.name, "initial": trace.initial, "ticks": _trace_fingerprint(name.delay)},
                "execute_horizon": name.execute_horizon,
                "perturbation": name.perturbation,
                "num_episodes": self.recipe.num_episodes,
                "batch": BATCH,
            }
        if isinstance(name, TrapName):
            settings |= {
                "num_stale_windows": self.recipe.num_stale_windows,
                "delay": name.delay,
                "conflict_m": CONFLICT_M,
                "window_seed": WINDOW_SEED,
            }
        return json.loads(json.dumps(settings))

    def folder(self, policy: PolicyName) -> Path:
        """Where the policies of these sizes lie: those of other sizes, or of a task that has changed, lie elsewhere."""
        training = self.training(policy)
        own = ("horizon", "variant", "seed", "max_prefix", *_NO_SETTING)
        sizes = {f.name: getattr(training, f.name) for f in fields(training) if f.name not in own}
        return self.recipe.out / "policies" / fingerprint({"sizes": sizes, "episodes": self.episodes[policy.task]})

    def train(self, policy: PolicyName) -> StatePolicy | VLAPolicy:
        """Train, continue or load a policy."""
        training, folder = self.training(policy), self.folder(policy)
        if isinstance(training, PixelTraining):
            trained = train_pixel_policy(training, folder)
        else:
            trained = train_state_policy(training, folder)
        assert trained is not None, "nothing was to stop it"
        return trained

    def training_numbers(self, policy: PolicyName, trained: StatePolicy | VLAPolicy) -> dict[str, Any]:
        """The numbers of a training cell: what came out of it."""
        path = self.folder(policy) / self.training(policy).path(policy.variant) / CURVES
        assert isinstance(trained.model, ActionModel)
        losses = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        return {
            "num_parameters": sum(weight.numel() for weight in trained.model.parameters()),
            "weights": trained.metadata.policy_id.rpartition("@")[2],
            "last_loss": float(f"{np.mean(losses[-max(1, len(losses) // 10) :]):.4g}"),
        }

    def drive(self, policy: Policy, name: RolloutName) -> list[Episode]:
        """The episodes of a cell."""
        method, task = METHODS[name.method], self.tasks[name.task]
        check_policy(policy.metadata, self.robot(name.task), method.mode)
        lockstep = Lockstep(task)
        return rollout_virtual(
            policy,
            lambda: DynamicEnvironment(task, self.with_images, name.perturbation, lockstep=lockstep),
            executor_config(method.mode, name.execute_horizon),
            delay_trace(name.delay, method.margin),
            episode_seeds(name.seed, self.recipe.num_episodes),
            batch=BATCH,
        )

    def pair(self, policy: Policy, calm: RolloutName, disturbed: RolloutName) -> list[tuple[float, dict[str, Any]]]:
        """(CPU seconds, numbers) of the twins, calm first. Reaction times need the commands of both."""
        start_s = time.process_time()
        twins = self.drive(policy, calm)
        middle_s = time.process_time()
        episodes = self.drive(policy, disturbed)
        numbers = measure(episodes) | {"reaction_ticks": reactions(episodes, twins)}
        return [(middle_s - start_s, measure(twins)), (time.process_time() - middle_s, numbers)]

    def trap(self, policy: Policy, name: TrapName) -> tuple[float, dict[str, Any]]:
        """(CPU seconds, numbers) of a trap cell."""
        start_s = time.process_time()
        task, recipe, mode = self.tasks[name.task], self.recipe, METHODS[name.method].mode
        half = name.horizon // 2
        numbers = measure_trap(policy, task, mode, recipe.num_stale_windows, name.horizon, half, name.delay)
        return time.process_time() - start_s, numbers


def make_bench(recipe: StudyAsyncRecipe) -> Bench:
    """Look the tasks up.

    Raises:
        ValueError: the suite has no such task.
    """
    known = {name.removeprefix("dynamic/"): task for name, task in TASKS.items()}
    if unknown := [task for task in recipe.tasks if task not in known]:
        raise ValueError(f"unknown task {unknown[0]!r}; tasks of the dynamic suite: {', '.join(known)}")
    tasks = {name: known[name]() for name in recipe.tasks}
    return Bench(recipe, tasks, {name: episode_fingerprint(task) for name, task in tasks.items()})


@cache
def delay_trace(delay: int | str, margin: int = 1) -> DelayTrace:
    """The delays of a cell: constant ticks, or `burst`."""
    if isinstance(delay, int):
        return constant_trace(delay, margin)
    assert delay == BURST
    return burst_trace(margin=margin)


@cache
def _trace_fingerprint(delay: int | str) -> str:
    return fingerprint({"ticks": delay_trace(delay).ticks})


def episode_fingerprint(task: Task[Any], num_episodes: int = 64) -> str:
    """Twelve hex digits of when and how the steady expert's episodes end: another physics gives another one."""
    ends = []
    for perturbation in (False, True):
        state = task.reset(episode_seeds(0, num_episodes), perturbation)
        style = task.steady_style(num_episodes)
        for _ in range(task.max_ticks + 1):
            moved = task.step(state, task.expert_command(state, style))
            going = state.is_running
            state = moved.with_scenes(np.flatnonzero(~going), state.take(~going))
        ends.append([state.tick.tolist(), state.outcome.tolist()])
    return fingerprint({"ends": ends})
