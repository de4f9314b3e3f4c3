"""An arm with ordinary limits, a policy that wanders smoothly or jumps, and runs of an executor under any trouble.

The tagged robot proves which row is sent; this one proves that what is sent can be done: position, velocity,
acceleration and jerk of the commands at control rate, in every state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.interfaces import Guidance, PolicyMetadata, Reply, Request
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig, Mode
from cerebella.runtime.rates import Rates
from cerebella.runtime.trace import commands
from cerebella.types import Action, ActionChunk, FloatArray, Observation

NUM_JOINTS = 3
VELOCITY, ACCELERATION, JERK, RANGE = 2.0, 15.0, 300.0, 1.5


def make_arm(
    control_hz: float = 30.0, policy_hz: float = 30.0, acceleration: float = ACCELERATION, jerk: float = JERK
) -> Embodiment:
    """Three joints and a gripper that takes any opening at once."""
    names = [f"joint_{i}" for i in range(NUM_JOINTS)]
    states = [Dimension(name, "rad", "joint", "base", i, -RANGE, RANGE) for i, name in enumerate(names)]
    states.append(Dimension("opening", "1", "gripper", "gripper", NUM_JOINTS, 0.0, 1.0))
    actions = [
        ActionDimension(
            name,
            "rad",
            "joint",
            "base",
            i,
            -RANGE,
            RANGE,
            max_velocity=VELOCITY,
            max_acceleration=acceleration,
            max_jerk=jerk,
            hold="last",
            reference=name,
            relative=False,
        )
        for i, name in enumerate(names)
    ]
    actions.append(
        ActionDimension(
            "opening",
            "1",
            "gripper",
            "gripper",
            NUM_JOINTS,
            0.0,
            1.0,
            max_velocity=control_hz,
            max_acceleration=1e9,
            max_jerk=1e9,
            hold="last",
            reference="opening",
            relative=False,
        )
    )
    return Embodiment("arm", "joint", tuple(states), tuple(actions), (), policy_hz, control_hz)


@dataclass
class WanderingPolicy:
    """Continues the prefix (or the measured pose) by a smooth random walk; `roughness` adds jumps that break every limit.

    Calls in `failures` raise; those in `strays` come back far from the pose, or outside the range.
    """

    metadata: PolicyMetadata
    seed: int
    roughness: float = 0.0
    failures: frozenset[int] = frozenset()
    strays: frozenset[int] = frozenset()
    num_calls: int = 0
    seen: list[Observation] = field(default_factory=list)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        call, horizon = self.num_calls, self.metadata.horizon
        self.num_calls += 1
        self.seen.append(observation)
        if call in self.failures:
            raise OSError(f"call {call}: the server is gone")
        rng = np.random.default_rng([self.seed, call])
        start = action_prefix[-1] if len(action_prefix) else observation.state
        speed = rng.normal(size=(horizon, NUM_JOINTS + 1)) * 0.002
        if len(action_prefix) > 1:
            speed[0] += action_prefix[-1] - action_prefix[-2]
        for i in range(1, horizon):
            speed[i] += 0.95 * speed[i - 1]
        rows = (start + np.cumsum(speed, axis=0) + self.roughness * rng.normal(size=speed.shape)).astype(np.float32)
        rows[:, -1] = rng.integers(0, 2)
        if call in self.strays:
            rows += rng.choice([-3.0, 3.0])
        rows[: len(action_prefix)] = action_prefix
        tick = observation.tick
        return ActionChunk(rows, tick, tick, len(action_prefix), self.metadata.policy_id, 0.01)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        return self.infer(observation, np.zeros((0, NUM_JOINTS + 1), dtype=np.float32))


def make_metadata(embodiment: Embodiment, horizon: int = 16, max_trained_prefix: int = 6) -> PolicyMetadata:
    return PolicyMetadata("wanderer", embodiment, horizon, None, max_trained_prefix, "none", supports_guidance=True)


class ScriptedTransport:
    """Evaluates at once and delivers when the script says: request number to the ticks at which its reply arrives.

    An empty list loses the reply; several ticks duplicate it. `garble` may replace a reply on the way.
    """

    def __init__(
        self,
        policy: Any,
        arrivals: Callable[[int], Sequence[int]],
        garble: Callable[[Request, Reply], Reply] | None = None,
    ) -> None:
        self.submitted: list[Request] = []
        self.is_closed = False
        self._policy = policy
        self._arrivals = arrivals
        self._garble = garble
        self._due: list[tuple[int, int, Reply]] = []

    def submit(self, request: Request) -> None:
        number = len(self.submitted)
        self.submitted.append(request)
        try:
            chunk = (
                self._policy.infer(request.observation, request.action_prefix)
                if request.guidance is None
                else self._policy.infer_guided(request.observation, request.guidance)
            )
            reply = Reply(request.id, chunk=chunk)
        except OSError as error:
            reply = Reply(request.id, error=f"OSError: {error}")
        if self._garble is not None:
            reply = self._garble(request, reply)
        for delay in self._arrivals(number):
            self._due.append((request.observation.tick + delay, number, reply))

    def poll(self, tick: int) -> list[Reply]:
        arrived = sorted((entry for entry in self._due if entry[0] <= tick), key=lambda entry: entry[:2])
        self._due = [entry for entry in self._due if entry[0] > tick]
        return [reply for _, _, reply in arrived]

    def close(self) -> None:
        self.is_closed = True


class Loop:
    """A robot of one's own on the virtual clock: it is where the last command told it to be, `lag` commands ago.

    Args:
        blocked: while True the robot stays where it is.
    """

    def __init__(
        self,
        executor: Executor,
        lag: int = 0,
        start: ArrayLike | None = None,
        on_tick: Callable[["Loop", int], None] | None = None,
    ) -> None:
        self.executor = executor
        embodiment = executor.metadata.embodiment
        self.rates = Rates(embodiment.policy_hz, embodiment.control_hz)
        self.sent: list[Action] = []
        self.blocked = False
        self.pose = np.zeros(embodiment.state_dim, dtype=np.float32)
        if start is not None:
            self.pose = np.asarray(start, dtype=np.float32)
        self._lag = lag
        self._on_tick = on_tick
        self._last_tick = -1
        self._control_hz = embodiment.control_hz
        self._next = 0

    def run(self, num_control_ticks: int, skip: Callable[[int], int] = lambda tick: 0) -> "Loop":
        """So many commands more; before control tick k, `skip(k)` control ticks are lost."""
        for _ in range(num_control_ticks):
            self._next += skip(self._next)
            tick, phase = self.rates.locate(self._next)
            now_s = self._next / self._control_hz
            if tick != self._last_tick:
                if self._on_tick is not None:
                    self._on_tick(self, tick)
                self.executor.observe(Observation(self.pose.copy(), "wander", tick, now_s), now_s, phase)
                self._last_tick = tick
            self.sent.append(self.executor.command(now_s, phase))
            if not self.blocked:
                self.pose = self.sent[max(0, len(self.sent) - 1 - self._lag)].values.copy()
            self._next += 1
        return self


def make_executor(
    policy: WanderingPolicy,
    transport: Any,
    mode: Mode = "prefix",
    execute_horizon: int = 8,
    initial_delay: int = 3,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Executor:
    return Executor(
        policy.metadata,
        ExecutorConfig(mode, execute_horizon, **(config or {})),
        transport,
        DelayEstimator(initial_delay, window=20, num_warmup=0),
        **options,
    )


def check_limits(executor: Executor, start: FloatArray | None = None) -> None:
    """E-8: every command within range, velocity, acceleration and jerk of the one before, up to float32 rounding."""
    control_hz = executor.metadata.embodiment.control_hz
    sent = commands(executor.trace).astype(np.float64)
    joints = sent[:, :NUM_JOINTS]
    first = joints[:1] if start is None else np.asarray(start, dtype=np.float64)[None, :NUM_JOINTS]
    joints = np.concatenate([first, first, first, joints])
    assert np.abs(sent[:, :NUM_JOINTS]).max() <= RANGE
    assert sent[:, -1].min() >= 0.0
    assert sent[:, -1].max() <= 1.0
    rounding = 2.0**-23 * RANGE
    joint = executor.metadata.embodiment.actions[0]
    for order, limit in ((1, joint.max_velocity), (2, joint.max_acceleration), (3, joint.max_jerk)):
        worst = float(np.abs(np.diff(joints, order, axis=0)).max())
        allowed = limit / control_hz**order * (1 + 1e-6) + 2**order * rounding
        assert worst <= allowed, f"difference {order}: {worst} > {allowed}"
