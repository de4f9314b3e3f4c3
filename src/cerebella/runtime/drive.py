"""One episode: observe, decide, act, once per tick, on any clock."""

from collections.abc import Callable
from dataclasses import dataclass

from cerebella.embodiment import Dimension, Embodiment
from cerebella.interfaces import Environment
from cerebella.runtime.clock import Clock, TickSchedule
from cerebella.runtime.executor import Executor
from cerebella.types import Action, Observation


@dataclass(frozen=True)
class Pacing:
    """How the loop kept its schedule.

    Args:
        num_ticks: commands sent.
        num_overruns: how often it came back more than one period late; num_skipped: deadlines dropped for it.
        max_lateness_s: the latest tick against its deadline.
    """

    num_ticks: int
    num_overruns: int
    num_skipped: int
    max_lateness_s: float


def drive(
    environment: Environment,
    executor: Executor,
    clock: Clock,
    max_ticks: int,
    on_tick: Callable[[Observation, Action], None] | None = None,
) -> Pacing:
    """Run one episode, from wherever `environment.reset` left it, until it is done or `max_ticks` commands were sent.

    `on_tick(observation, command)` is called after each command was applied. The caller closes the executor.

    Raises:
        ValueError: the policy was made for another embodiment.
        InferenceFailure: too many inferences failed in a row.
    """
    check_embodiment(executor.metadata.embodiment, environment.embodiment)
    schedule = TickSchedule(1.0 / environment.embodiment.control_hz, clock)
    num_ticks = 0
    while num_ticks < max_ticks and not environment.status().is_done:
        schedule.wait()
        observation = environment.observe()
        executor.observe(observation, clock.now_s())
        action = executor.command(clock.now_s())
        environment.apply(action)
        num_ticks += 1
        if on_tick is not None:
            on_tick(observation, action)
    return Pacing(num_ticks, schedule.num_overruns, schedule.num_skipped, schedule.max_lateness_s)


def check_embodiment(policy: Embodiment, robot: Embodiment) -> None:
    """Raise a ValueError naming the first difference that would make a policy's numbers mean something else.

    Compared: name, control mode, rates, and each dimension's name, unit, kind and frame, in order; and the robot must
    have every camera view that the policy looks through. Ranges may differ.
    """
    for what in ("name", "control_mode", "policy_hz", "control_hz"):
        ours, theirs = getattr(policy, what), getattr(robot, what)
        if ours != theirs:
            raise ValueError(f"the policy was made for the {what} {ours!r}; this robot has {theirs!r}")
    for what, ours, theirs in (("state", policy.states, robot.states), ("action", policy.actions, robot.actions)):
        if (expected := _meaning(ours)) != (got := _meaning(theirs)):
            raise ValueError(f"the policy was made for the {what} vector {expected}; this robot has {got}")
    if missing := [view for view in policy.views if view not in robot.views]:
        raise ValueError(
            f"the policy looks through the view {missing[0]!r}; this robot has the views "
            f"{', '.join(robot.views) or 'none'}"
        )


def _meaning(dimensions: tuple[Dimension, ...]) -> str:
    return ", ".join(f"{d.name} [{d.unit}, {d.kind}, {d.frame}]" for d in dimensions)
