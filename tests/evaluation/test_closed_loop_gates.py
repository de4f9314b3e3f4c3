"""Closed-loop gates: what delay and mode may and may not do to whole episodes.

Policies are experts of the dynamic tasks: as they are (deterministic), or sampling around their plan by an exact flow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.envs.dynamic.intercept import Intercept
from cerebella.envs.dynamic.task import Task
from cerebella.evaluation.delays import DelayTrace, burst_trace, jitter_trace
from cerebella.evaluation.metrics import cycle_idle_share, idle_share, law_distance, reaction_law, reaction_ticks
from cerebella.evaluation.rollout import Episode, PolicySource, rollout_virtual
from cerebella.evaluation.statistics import compare_paired
from cerebella.evaluation.suites import EvalConfig, evaluate, executor_config
from cerebella.interfaces import Environment, Guidance, PolicyMetadata, Reply
from cerebella.processing.noise import noise_seed
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import MODES, ExecutorConfig, Mode
from cerebella.runtime.transport import VirtualTransport, batched
from cerebella.types import ActionChunk, FloatArray, Observation

from .flow_expert import HORIZON, flow_expert

CONVEYOR, INTERCEPT = ConveyorTask(), Intercept()


class PlainExpert(DynamicExpert):
    """Shown a running plan, it answers what it would answer anyway: any mode fits it."""

    @property
    def metadata(self) -> PolicyMetadata:
        return replace(super().metadata, supports_guidance=True)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        return self.infer(observation, guidance.plan[:0])


def expert(environment: Environment) -> PlainExpert:
    assert isinstance(environment, DynamicEnvironment)
    return PlainExpert(environment, HORIZON)


def run(
    policy: PolicySource,
    task: Task[Any],
    mode: Mode,
    delay: int | DelayTrace,
    num_episodes: int,
    execute_horizon: int = 8,
    perturbation: bool = False,
    **options: Any,
) -> list[Episode]:
    config = executor_config(mode, execute_horizon)
    if "num_candidates" in options:
        config = replace(config, num_candidates=options.pop("num_candidates"))

    def make() -> Environment:
        return DynamicEnvironment(task, with_images=False, perturbation=perturbation)

    return rollout_virtual(policy, make, config, delay, range(num_episodes), batch=64, **options)


def commands(episodes: Sequence[Episode]) -> list[bytes]:
    return [episode.log.values.tobytes() for episode in episodes]


def successes(episodes: Sequence[Episode]) -> list[bool]:
    return [episode.status.is_success for episode in episodes]


# B-1: without delay the modes are the synchronous loop


def test_b1_without_delay_a_policy_that_does_not_look_at_the_plan_is_the_same_in_every_mode() -> None:
    """Bit by bit. `ensemble` averages with older chunks, and is another method also without delay."""
    streams = {mode: commands(run(expert, INTERCEPT, mode, 0, 4)) for mode in MODES if mode != "ensemble"}
    assert all(stream == streams["sync"] for stream in streams.values())


def test_b1_without_delay_sampling_modes_that_promise_nothing_are_the_same() -> None:
    sampling = flow_expert(0.006)
    wanted = commands(run(sampling, INTERCEPT, "sync", 0, 4))
    for mode in ("naive", "prefix"):
        assert commands(run(sampling, INTERCEPT, mode, 0, 4)) == wanted
    assert commands(run(sampling, INTERCEPT, "best_of_n", 0, 4, num_candidates=1)) == wanted
    assert commands(run(sampling, INTERCEPT, "best_of_n", 0, 4)) != wanted
    for mode in ("guided", "guided_identity", "best_of_n"):  # s = H: no row of the old plan is left to look at
        whole = [commands(run(sampling, INTERCEPT, m, 0, 4, execute_horizon=HORIZON)) for m in ("sync", mode)]
        assert whole[0] == whole[1]


@pytest.mark.parametrize(("task", "spread_m", "execute_horizon"), [(CONVEYOR, 0.009, 8), (INTERCEPT, 0.006, 12)])
def test_b1_without_delay_every_mode_succeeds_as_often_as_waiting(
    task: Task[Any], spread_m: float, execute_horizon: int
) -> None:
    sampling = flow_expert(spread_m)
    waiting = successes(run(sampling, task, "sync", 0, 24, execute_horizon))
    for mode in ("ensemble", "guided", "guided_identity", "best_of_n"):
        difference = compare_paired(waiting, successes(run(sampling, task, mode, 0, 24, execute_horizon)))
        assert difference.low <= 0.0 <= difference.high, mode


def test_b1_the_interval_can_tell_modes_apart() -> None:
    """With s = H / 2 each executed row is pulled: guidance holds on to a plan that a bounce has made wrong, delay or not."""
    waiting, guided = (successes(run(flow_expert(0.006), INTERCEPT, mode, 0, 32)) for mode in ("sync", "guided"))
    assert compare_paired(waiting, guided).low > 0.0


# B-4: reaction times follow their law


@pytest.mark.parametrize(("mode", "delay", "execute_horizon"), [("naive", 4, 8), ("prefix", 2, 6), ("best_of_n", 3, 8)])
def test_b4_reaction_times_follow_the_law(mode: Mode, delay: int, execute_horizon: int) -> None:
    """Twins: the same episodes with and without a hit at a random tick. An expert answers it in its next chunk."""
    pairs = zip(
        *(run(expert, INTERCEPT, mode, delay, 60, execute_horizon, hit, max_ticks=42) for hit in (True, False)),
        strict=True,
    )
    reactions = [
        reaction_ticks(hit.log, twin.log, int(hit.metrics["perturbation_tick"] or 0), threshold_m=1e-6)
        for hit, twin in pairs
        if hit.metrics["perturbation_tick"] != -1
    ]
    answered = [ticks for ticks in reactions if ticks is not None]
    promised = 0 if mode == "naive" else min(delay, execute_horizon, HORIZON - execute_horizon)
    law = reaction_law(delay, execute_horizon, promised)
    assert len(answered) >= 45
    assert np.flatnonzero(law)[0] <= min(answered)
    assert np.mean(np.array(answered) >= len(law)) <= 0.05, "limits of motion may hide the first different rows"
    assert law_distance(answered, law) < 1.36 / math.sqrt(len(answered))
    mean = float(np.arange(len(law)) @ law)
    assert np.mean(answered) == pytest.approx(mean, rel=0.1)
    slower = np.concatenate([np.zeros(2), law])
    assert law_distance(answered, slower) > 1.36 / math.sqrt(len(answered)), "two ticks more would be noticed"


# B-5: idleness


class Drifter(PlainExpert):
    """Moves at 30 mm/s, so that it comes to rest without any tick of slowing down."""

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        chunk = super().infer(observation, action_prefix)
        start = self.metadata.embodiment.reference_of(observation.state)
        rows = np.tile(start, (HORIZON, 1)) + 0.001 * np.arange(HORIZON)[:, None]
        rows[: len(action_prefix)] = action_prefix
        return replace(chunk, actions=rows.astype(np.float32))


def drifter(environment: Environment) -> Drifter:
    assert isinstance(environment, DynamicEnvironment)
    return Drifter(environment, HORIZON)


@pytest.mark.parametrize(("delay", "execute_horizon"), [(2, 8), (4, 8), (8, 8), (5, 6)])
def test_b5_who_waits_idles_r_of_s_plus_r_and_nobody_else_does(delay: int, execute_horizon: int) -> None:
    for mode in MODES:
        episodes = run(drifter, INTERCEPT, mode, delay, 1, execute_horizon)
        logs = [episode.log for episode in episodes]
        if mode == "sync":
            assert cycle_idle_share(logs) == pytest.approx(delay / (execute_horizon + delay), rel=0.01)
        else:
            assert idle_share(logs) == 0.0, mode


def test_b5_fast_motion_does_not_idle_either_while_a_plan_lasts_longer_than_the_answer_takes() -> None:
    """s + r < H. With s + r = H the robot slows down before the end of its plan, as nobody knows that an answer will come."""
    shares = [
        idle_share([episode.log for episode in run(expert, INTERCEPT, "naive", delay, 4, 8)]) for delay in (2, 6, 8)
    ]
    assert shares[:2] == [0.0, 0.0]
    assert shares[2] != 0.0


# B-6: uncertain latency is no advantage


@pytest.mark.parametrize("mode", ["naive", "prefix"])
def test_b6_jitter_never_helps(mode: Mode) -> None:
    """The same mean delay, constant and spread: were observations of the future used, spread would win.

    Where success falls ever faster with the delay, that is; where it is nearly 0 already, the quick half of the answers
    helps, honestly.
    """
    trace = jitter_trace(mean=5, spread=3)
    assert trace.mean == 5.0
    steady, spread = (successes(run(expert, INTERCEPT, mode, d, 32, perturbation=True)) for d in (5, trace))
    assert 0.3 < np.mean(steady) < 0.98, "neither always nor rarely, or nothing could be seen"
    assert compare_paired(spread, steady).low <= 0.0


# B-8: the same seed gives the same report


@pytest.mark.parametrize("delay", [4, "burst"])
def test_b8_two_runs_give_the_same_report(delay: Any) -> None:
    config = EvalConfig("dynamic/conveyor", "expert", "prefix", delay, episodes=6, perturbation=True, execute_horizon=8)
    first, second = (evaluate(config, show_progress=False) for _ in range(2))
    for result in (first, second):
        del result["run"], result["timing"]
    assert first == second
    assert len(first["episodes"]) == 6


# B-9: no answer knows what was seen after its question


class Probe:
    """Rows around the measured pose that are a function of every number and pixel that the policy was shown."""

    def __init__(self, embodiment: Embodiment) -> None:
        self.metadata = PolicyMetadata("probe", embodiment, HORIZON, None, HORIZON - 1, "none", supports_guidance=True)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        rng = np.random.default_rng([noise_seed(observation), int(1e6 * np.abs(action_prefix).sum())])
        start = self.metadata.embodiment.reference_of(observation.state)
        rows = (start + rng.uniform(-0.01, 0.01, (HORIZON, len(start)))).astype(np.float32)
        rows[: len(action_prefix)] = action_prefix
        return ActionChunk(rows, observation.tick, observation.tick, len(action_prefix), "probe", 0.0)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        return self.infer(observation, guidance.plan[:0])


class Leaking(Probe):
    """Looks at the world when it is asked to compute, not at what was seen when the question was put."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment.embodiment)
        self._environment = environment

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        return super().infer(replace(self._environment.observe(), tick=observation.tick), action_prefix)


class Disturbed:
    """An environment whose observations after a tick are noise, pixels and state alike."""

    def __init__(self, inner: DynamicEnvironment[Any], last_clear_tick: float) -> None:
        self._inner = inner
        self._last_clear_tick = last_clear_tick
        self.embodiment: Embodiment = inner.embodiment
        self.reset, self.apply, self.status = inner.reset, inner.apply, inner.status

    def observe(self) -> Observation:
        seen = self._inner.observe()
        if seen.tick <= self._last_clear_tick:
            return seen
        rng = np.random.default_rng(seen.tick)
        low, high = (np.array([getattr(d, name) for d in self.embodiment.states]) for name in ("low", "high"))
        return replace(
            seen,
            state=rng.uniform(low, high).astype(np.float32),
            images={view: rng.integers(0, 256, image.shape, np.uint8) for view, image in seen.images.items()},
        )


class Reusing(Disturbed):
    """An environment that writes every observation into the same arrays, as a camera driver may."""

    def __init__(self, inner: DynamicEnvironment[Any]) -> None:
        super().__init__(inner, math.inf)
        self._kept: Observation | None = None

    def observe(self) -> Observation:
        seen = super().observe()
        if self._kept is None:
            self._kept = seen
        self._kept.state[:] = seen.state
        for view, image in seen.images.items():
            self._kept.images[view][:] = image
        return replace(seen, state=self._kept.state, images=self._kept.images)


class Keeping(VirtualTransport):
    """Remembers the chunks that arrive."""

    chunks: dict[int, ActionChunk]

    def poll(self, tick: int) -> list[Reply]:
        replies = super().poll(tick)
        self.chunks |= {reply.request_id: reply.chunk for reply in replies if reply.chunk is not None}
        return replies


def answer(
    make_policy: Callable[[Environment], Probe], mode: Mode, with_images: bool, last_clear_tick: float = math.inf
) -> ActionChunk:
    """The chunk of the third request, 5 ticks after its observation."""
    environment = Disturbed(DynamicEnvironment(CONVEYOR, with_images), last_clear_tick)
    environment.reset(3)
    policy = make_policy(environment)
    transport = Keeping(batched(policy), lambda number: 5)
    transport.chunks = {}
    executor = Executor(
        policy.metadata, ExecutorConfig(mode, 8, tracking_limit_s=math.inf), transport, DelayEstimator(6)
    )
    while 2 not in transport.chunks:
        executor.observe(environment.observe())
        environment.apply(executor.command())
    return transport.chunks[2]


def probe(environment: Environment) -> Probe:
    return Probe(environment.embodiment)


@pytest.mark.parametrize("with_images", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_b9_noise_behind_the_question_changes_no_bit_of_the_answer(mode: Mode, with_images: bool) -> None:
    clear = answer(probe, mode, with_images)
    noisy = answer(probe, mode, with_images, clear.observation_tick)
    assert noisy.actions.tobytes() == clear.actions.tobytes()
    before = answer(probe, mode, with_images, clear.observation_tick - 1)
    assert before.actions.tobytes() != clear.actions.tobytes(), "what the question shows does count"


def test_b9_a_policy_that_looks_too_late_is_caught() -> None:
    clear = answer(Leaking, "naive", with_images=True)
    noisy = answer(Leaking, "naive", True, clear.observation_tick)
    assert noisy.actions.tobytes() != clear.actions.tobytes()


@pytest.mark.parametrize("delay", [5, burst_trace()])
def test_b9_an_environment_that_reuses_its_arrays_changes_nothing(delay: int | DelayTrace) -> None:
    """Inferences that are computed when their answers are due must not read what the arrays have become."""
    streams = [
        commands(
            rollout_virtual(
                Probe(CONVEYOR.embodiment),
                lambda wrap=wrap: wrap(DynamicEnvironment(CONVEYOR)),
                executor_config("prefix", 8),
                delay,
                range(3),
                max_ticks=50,
            )
        )
        for wrap in (lambda inner: inner, Reusing)
    ]
    assert streams[0] == streams[1]


# Answers that overtake


def test_every_answer_is_that_of_its_own_question_whatever_the_latencies() -> None:
    """Episodes share one queue: what is open when the first answer is due is computed then, also what is due much later."""
    delays = DelayTrace("mixed", (1, 9, 3, 0, 6, 2, 8), initial=4)
    together = run_probe(delays, range(6))
    alone = [episode for seed in range(6) for episode in run_probe(delays, [seed])]
    assert commands(together) == commands(alone)
    waited = [r.num_ticks_waited for e in together for r in e.requests if r.num_ticks_waited >= 0]
    assert set(waited) == {0, 1, 2, 3, 6, 8, 9}
    for episode in together:
        for number, request in enumerate(episode.requests):
            assert request.num_ticks_waited in (-1, delays(episode.seed, number))


def run_probe(delays: DelayTrace, seeds: Sequence[int]) -> list[Episode]:
    return rollout_virtual(
        Probe(CONVEYOR.state_embodiment),
        lambda: DynamicEnvironment(CONVEYOR, with_images=False),
        executor_config("prefix", 8),
        delays,
        seeds,
        max_ticks=50,
    )
