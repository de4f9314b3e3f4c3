"""Episodes of one condition: what turns the name of a rollout cell into its numbers.

The numbers are those of `study_async.measures`, and per episode: `parts` in the right place, and `parts_per_min` of them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from cerebella.envs.registry import make_environment
from cerebella.envs.workcell.tasks import make_task
from cerebella.evaluation.rollout import Episode, rollout_virtual
from cerebella.evaluation.suites import check_policy, delay_trace, executor_config
from cerebella.evaluation.workcell_expert import play_expert
from cerebella.policies import load_policy
from cerebella.policies.stored import weights_hash
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.recipes.study_async.measures import measure
from cerebella.recipes.workcell_study.cells import RolloutName
from cerebella.recipes.workcell_study.names import EXPERT
from cerebella.recipes.workcell_study.plan import num_episodes
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.trainings import final

PARTS = ("num_picked", "num_sorted", "num_folded")
"""The metric of a task that counts what is done; the first that it has."""


@dataclass
class Bench:
    """Policies and environments of one process, kept because each takes seconds to make.

    Args:
        study: whose task and policies.
    """

    study: StudyWorkcell
    _policies: dict[str, VLAPolicy] = field(default_factory=dict)
    _pool: list[Any] = field(default_factory=list)

    def policy(self, training: str) -> VLAPolicy:
        """The finished policy of a training."""
        if training not in self._policies:
            self._policies[training] = load_policy(final(self.study, training))
        return self._policies[training]

    def environment(self, with_images: bool = True) -> Any:
        """A new environment of the study's task, as the demonstrations had it."""
        policy = self.study.policy
        size_px = (policy.render_px, policy.render_px)
        return make_environment(
            policy.task, with_images=with_images, render_size=size_px, randomisation=policy.randomisation
        )

    def environments(self) -> Iterator[Any]:
        """As many as run in lock step, again and again; each reset makes all of them alike."""
        self._pool += [self.environment() for _ in range(self.study.batch - len(self._pool))]
        return cycle(self._pool)

    def drive(self, name: RolloutName) -> list[Episode]:
        """The episodes of a cell.

        Raises:
            ValueError: the policy was made for another robot, or cannot be run in this mode.
        """
        study, seeds = self.study, episode_seeds(self.study, name)
        if name.training == EXPERT:
            return play_expert(self.environment(with_images=False), seeds, lambda episode: None)
        policy, environments = self.policy(name.training), self.environments()
        check_policy(policy.metadata, next(environments).embodiment, name.mode)
        config = executor_config(name.mode, study.execute_horizon(name.mode, name.delay))
        return rollout_virtual(
            policy,
            lambda: next(environments),
            config,
            delay_trace(name.delay),
            seeds,
            batch=study.batch,
            max_ticks=most_ticks(study),
        )


def most_ticks(study: StudyWorkcell) -> int:
    """Of an episode of a policy."""
    return make_task(study.policy.task).max_ticks if study.max_ticks is None else study.max_ticks


def episode_seeds(study: StudyWorkcell, name: RolloutName) -> list[int]:
    """Those of a cell, which do not depend on its condition: all differences are between the same episodes."""
    start = study.first_episode_seed + name.first
    return list(range(start, start + num_episodes(study, name)))


def rollout_settings(study: StudyWorkcell, name: RolloutName) -> dict[str, Any]:
    """What decides the numbers of a cell. Weights stand for everything that a training was."""
    seeds = episode_seeds(study, name)
    shared = {
        "task": study.policy.task,
        "randomisation": study.policy.randomisation,
        "first_seed": seeds[0],
        "num_episodes": len(seeds),
    }
    if name.training == EXPERT:
        return shared
    return shared | {
        "weights": weights_hash(final(study, name.training)),
        "render_px": study.policy.render_px,
        "mode": name.mode,
        "delay": name.delay,
        "execute_horizon": study.execute_horizon(name.mode, name.delay),
        "batch": study.batch,
        "max_ticks": most_ticks(study),
    }


def rollout_numbers(episodes: list[Episode]) -> dict[str, Any]:
    """See the module. Without a metric that counts parts, an episode has one: its success."""
    parts = [_num_parts(episode) for episode in episodes]
    minutes = sum(episode.log.num_ticks / episode.log.control_hz / 60.0 for episode in episodes)
    return measure(episodes) | {"parts": parts, "parts_per_min": round(sum(parts) / minutes, 3)}


def _num_parts(episode: Episode) -> int:
    for name in PARTS:
        if (num := episode.metrics.get(name)) is not None:
            return int(num)
    return int(episode.status.is_success)
