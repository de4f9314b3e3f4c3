"""One episode: observe, decide, act, once per control tick, on any clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cerebella.embodiment import Dimension, Embodiment
from cerebella.interfaces import Environment
from cerebella.runtime.clock import Clock, TickSchedule
from cerebella.runtime.executor import Executor
from cerebella.runtime.rates import Rates
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
    *,
    guards: Sequence[Callable[[], None]] = (),
    counts_missed_ticks: bool = False,
    last_sent: Callable[[], Action | None] | None = None,
) -> Pacing:
    """Run one episode, from wherever `environment.reset` left it, until it is done or `max_ticks` commands were sent.

    The environment runs at `control_hz`; the executor gets an observation at every tick of `policy_hz`, and decides a
    command for each control tick.

    Args:
        on_tick: called with the observation and the command after each command was applied; may give the executor an
            operator's orders. The caller closes the executor.
        guards: called before each command is applied; whatever they raise ends the episode, and the command is not
            applied (an emergency stop).
        last_sent: what the robot really sent; asked after each command (see `Executor.was_sent`).
        counts_missed_ticks: time went on while the loop was stalled (a robot); a simulator waits.

    Raises:
        ValueError: the policy was made for another embodiment.
        InferenceFailure: too many inferences failed in a row.
    """
    embodiment = environment.embodiment
    check_embodiment(executor.metadata.embodiment, embodiment)
    rates = Rates(embodiment.policy_hz, embodiment.control_hz)
    schedule = TickSchedule(1.0 / embodiment.control_hz, clock)
    num_ticks, last_tick = 0, -1
    while num_ticks < max_ticks and not environment.status().is_done:
        schedule.wait()
        observation = environment.observe()
        num_missed = schedule.num_skipped if counts_missed_ticks else 0
        tick, phase = rates.locate(observation.tick + num_missed)
        if tick != last_tick:
            executor.observe(replace(observation, tick=tick), clock.now_s(), phase)
            last_tick = tick
        action = replace(executor.command(clock.now_s(), phase), tick=observation.tick)
        for guard in guards:
            guard()
        environment.apply(action)
        num_ticks += 1
        sent = last_sent() if last_sent is not None else None
        if sent is not None:
            executor.was_sent(sent.values)
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
