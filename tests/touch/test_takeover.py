"""The take-over in the real executor on the virtual clock: the policy grasps with an error, touch corrects it, and hands back."""

import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cerebella.embodiment import Embodiment
from cerebella.geometry import Array, compose, inverse
from cerebella.interfaces import Takeover
from cerebella.runtime.clock import VirtualClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.transport import VirtualTransport, batched
from cerebella.touch.effector import Effector
from cerebella.touch.grasp import pose_error
from cerebella.touch.reading import CountArray
from cerebella.touch.refinement_steps import RefinerConfig
from cerebella.touch.takeover import TouchRefinement, Trigger
from cerebella.touch.takeover_run import TakeoverConfig
from cerebella.types import Action, FloatArray, Observation

from .tiny_world import Oracle, make_goal, pose
from .touch_cell import T_BASE_OBJECT, T_EFFECTOR_WRIST, GraspPolicy, TouchCell, make_embodiment, wrist_of

CONTROL_HZ = 30
GOAL, START = pose(), pose(z_mm=5, roll_deg=8)
CONFIG = TakeoverConfig(release_opening=0.6, max_ticks=600)


class Episode:
    """One run of a policy, the executor and a filter."""

    def __init__(
        self,
        predictor: Oracle | None = None,
        config: TakeoverConfig = CONFIG,
        trigger: Trigger | None = None,
        refiner: RefinerConfig | None = None,
        worker: ThreadPoolExecutor | None = None,
    ) -> None:
        self.cell = TouchCell(make_embodiment(), START)
        self.policy = GraspPolicy(self.cell.embodiment, self.cell.T_base_grasp)
        self.clock = VirtualClock()
        self.filter = TouchRefinement(
            self.cell.embodiment,
            T_EFFECTOR_WRIST,
            predictor or Oracle(lambda: self.cell.T_wrist_object, GOAL, 1e-4, 1e-3),
            make_goal(GOAL),
            config,
            trigger or Trigger("contact"),
            refiner,
            worker=worker,
            now_s=self.clock.now_s,
        )
        transport = VirtualTransport(batched(self.policy), lambda number: 2)
        self.executor = Executor(
            self.policy.metadata,
            ExecutorConfig("prefix", 8),
            transport,
            DelayEstimator(2, window=20, num_warmup=0),
            action_filter=self.filter,
        )

    def run(self, num_ticks: int, on_tick: Callable[[Observation, Action], None] | None = None) -> "Episode":
        drive(self.cell, self.executor, self.clock, num_ticks, on_tick)
        return self

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.executor.trace]

    @property
    def error(self) -> tuple[float, float]:
        distance, angle = pose_error(self.cell.T_wrist_object, GOAL)
        return float(distance), float(angle)


def test_touch_corrects_the_grasp_of_the_policy_and_hands_back() -> None:
    episode = Episode().run(400)
    (refinement,) = episode.filter.refinements
    assert refinement.outcome == "converged", refinement.reason
    distance, angle = pose_error(START, GOAL)
    assert (distance, angle) == pytest.approx((5e-3, math.radians(8)))
    assert episode.error[0] < 5e-4
    assert episode.error[1] < math.radians(0.5)
    assert episode.cell.num_dragged == 0
    assert episode.cell.openings[-1] == 0.0

    states = episode.states
    first = states.index("filter")
    last = len(states) - 1 - states[::-1].index("filter")
    assert set(states[first : last + 1]) == {"filter"}  # one piece: no row of any chunk is played meanwhile
    assert last - first < CONFIG.max_ticks
    assert "run" in states[last:]


def test_an_arm_that_hangs_low_gets_there() -> None:
    episode = Episode()

    def on_tick(observation: Observation, action: Action) -> None:
        episode.cell.sag_m = 2e-3 if episode.filter.is_active else episode.cell.sag_m

    episode.run(400, on_tick)
    (refinement,) = episode.filter.refinements
    assert refinement.outcome == "converged", refinement.reason
    T_wrist_object = compose(inverse(refinement.T_world_wrist_end), T_BASE_OBJECT)
    assert pose_error(T_wrist_object, GOAL)[0] < 5e-4


def test_the_plan_is_dropped_and_the_policy_starts_anew_with_an_empty_prefix() -> None:
    episode = Episode().run(400)
    ticks = [record.tick for record in episode.executor.trace if record.state == "filter"]
    first, last = ticks[0], ticks[-1]
    asked = [tick for tick, _ in episode.policy.prefixes]
    assert not [tick for tick in asked if first < tick <= last]
    after = [(tick, length) for tick, length in episode.policy.prefixes if tick > last]
    assert after[0][1] == 0
    assert after[0][0] <= last + 2
    assert any(length > 0 for _, length in after[1:])
    trace = list(episode.executor.trace)
    resumed = next(i for i, record in enumerate(trace) if record.tick > last and record.state == "run")
    refined = next(record for record in reversed(trace) if record.state == "filter")
    assert np.abs(trace[resumed].values - refined.values).max() < 1e-4  # from the measured pose, no jump
    assert trace[resumed].observation_tick > last


def test_every_command_of_a_take_over_is_inside_the_limits() -> None:
    """The targets go through the executor's limits like anything else."""
    episode = Episode().run(320)
    values = np.stack([record.values for record in episode.executor.trace]).astype(float)
    speed = np.abs(np.diff(values[:, :3], axis=0)).max() * CONTROL_HZ
    assert speed <= 0.4 + 1e-4
    assert speed > 0.02
    assert values[:, 6].max() <= 1.0
    wrist = np.stack([wrist_of(record.values)[:3, 3] for record in episode.executor.trace if record.state == "filter"])
    assert 0.01 < np.linalg.norm(np.diff(wrist, axis=0), axis=1).max() * CONTROL_HZ < 1.2 * CONFIG.speed_m_s


def test_it_takes_over_once_per_grasp() -> None:
    episode = Episode().run(600)
    assert len(episode.filter.refinements) == 1
    observation = replace(episode.cell.observe(), tick=2000)
    closed = Action(np.array([0, 0, 0, 0, 0, 0, 0.0], dtype=np.float32), 2000)
    opened = Action(np.array([0, 0, 0, 0, 0, 0, 1.0], dtype=np.float32), 2000)
    for _ in range(50):
        assert episode.filter.filter(observation, closed) is closed
    assert episode.filter.filter(observation, opened) is opened
    answers = [episode.filter.filter(observation, closed) for _ in range(20)]
    assert isinstance(answers[-1], Takeover)  # the next grasp


def test_without_contact_it_does_not_take_over() -> None:
    episode = Episode()
    episode.cell.is_removed = True
    episode.run(300)
    assert "filter" not in episode.states
    assert episode.cell.openings[-1] == 0.0


def test_an_armed_take_over_starts_by_hand_only_and_is_refused_without_contact() -> None:
    episode = Episode(trigger=Trigger("arm")).run(120)
    assert "filter" not in episode.states
    episode.cell.is_removed = True
    episode.filter.arm()
    episode.run(100)
    (refinement,) = episode.filter.refinements
    assert (refinement.outcome, "contact is missing" in refinement.reason) == ("refused", True)
    assert not episode.filter.is_active


@pytest.mark.parametrize(
    ("fault", "onset", "message"),
    [
        ("is_jammed", 1, r"the gripper is open by 0\.00 1\.5 s after it should be open by 0\.60"),
        ("is_stuck", 1, r"the wrist is \d+\.\d mm and \d+\.\d deg from its target 1\.5 s after"),
        ("is_jammed", 25, ""),
        ("is_stuck", 25, ""),
    ],
)
def test_a_robot_that_does_not_follow_is_told_to_close_and_handed_back(fault: str, onset: int, message: str) -> None:
    episode, active = Episode(config=replace(CONFIG, reach_m=1e-3)), []

    def on_tick(observation: Observation, action: Action) -> None:
        active.append(episode.filter.is_active)
        if sum(active) >= onset:
            setattr(episode.cell, fault, True)

    episode.run(450, on_tick)
    refinement = episode.filter.refinements[0]
    assert refinement.outcome == "refused" or not message
    assert re.search(message, refinement.reason)
    told = [record.values[6] for record in episode.executor.trace if record.state == "filter"]
    assert told[-1] == pytest.approx(0.0, abs=1e-6)


def test_too_little_time_ends_with_a_closed_hand() -> None:
    """Increments that never shrink, and ticks for about two steps: no step is begun that cannot be finished."""

    class Endless(Oracle):
        def predict(
            self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
        ) -> Array:
            return pose(y_mm=2)

    config = replace(CONFIG, max_ticks=420)
    refiner = RefinerConfig(max_steps=50, max_way_rad=math.radians(25))
    episode = Episode(Endless(lambda: GOAL, GOAL), config, refiner=refiner).run(450)
    (refinement,) = episode.filter.refinements
    assert refinement.outcome == "budget", refinement.reason
    assert "are left, too little for another step" in refinement.reason
    assert refinement.num_moves == len(refinement.steps) - 1
    assert episode.states.count("filter") < 420
    assert episode.cell.openings[-1] == 0.0


def test_claims_count_down_to_the_budget() -> None:
    episode = Episode()
    claims = []
    inner = episode.filter.filter

    def watched(observation: Observation, action: Action) -> Action | Takeover:
        answer = inner(observation, action)
        if isinstance(answer, Takeover):
            claims.append(answer.remaining_ticks)
        return answer

    episode.filter.filter = watched  # pyright: ignore[reportAttributeAccessIssue]
    episode.run(320)
    assert claims == list(range(CONFIG.max_ticks, CONFIG.max_ticks - len(claims), -1))
    assert claims[-1] > 0


def drained(worker: ThreadPoolExecutor) -> Callable[[Observation, Action], None]:
    """Waits after every command for what one thread was given before, so that each prediction takes one tick."""

    def on_tick(observation: Observation, action: Action) -> None:
        worker.submit(int).result()

    return on_tick


def test_predictions_in_a_worker_give_the_same_end() -> None:
    with ThreadPoolExecutor(1) as worker:
        episode = Episode(Oracle(lambda: episode.cell.T_wrist_object, GOAL), worker=worker)
        episode.run(320, drained(worker))
    assert episode.filter.refinements[0].outcome == "converged", episode.filter.refinements[0].reason
    assert episode.error[0] < 1e-5


class Failing(Oracle):
    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        raise OSError("the device is gone")


def test_an_error_in_the_worker_hands_back() -> None:
    with ThreadPoolExecutor(1) as worker:
        episode = Episode(Failing(lambda: GOAL, GOAL), worker=worker)
        episode.run(300, drained(worker))
    (refinement,) = episode.filter.refinements
    assert refinement.reason == "the prediction failed: OSError: the device is gone"
    assert "run" in episode.states[-20:]


def test_a_slow_prediction_without_a_worker_hands_back() -> None:
    class Slow(Oracle):
        def predict(
            self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
        ) -> Array:
            episode.clock.advance(0.05)
            return super().predict(counts, joints, goal_counts, goal_joints)

    episode = Episode(Slow(lambda: GOAL, GOAL))
    episode.run(300)
    (refinement,) = episode.filter.refinements
    assert refinement.outcome == "refused"
    assert "took 50.0 ms of the control thread, a tick has 33.3 ms; give the take-over a worker" in refinement.reason


def test_a_human_in_between_ends_it() -> None:
    episode, since = Episode(), []

    def on_tick(observation: Observation, action: Action) -> None:
        if episode.filter.is_active:
            since.append(observation.tick)
        if len(since) == 15:
            episode.executor.take_over()
            episode.executor.human_command(action.values)
        if len(since) == 45:
            episode.executor.hand_back()

    episode.run(250, on_tick)
    assert "interrupted" in episode.filter.refinements[0].reason
    assert not episode.filter.is_active


def test_taxels_that_vanish_end_it() -> None:
    episode = Episode()
    observe = episode.cell.observe

    def blind() -> Observation:
        seen = observe()
        return replace(seen, tactile={}) if episode.filter.is_active else seen

    episode.cell.observe = blind
    episode.run(200)
    assert "no taxels of thumb, index" in episode.filter.refinements[0].reason
    with pytest.raises(ValueError, match=r"Observation\.tactile needs the fingers"):
        Episode().filter.filter(replace(observe(), tactile={}), Action(np.zeros(7, dtype=np.float32), 0))


def rejected(embodiment: Embodiment, message: str, **options: str) -> None:
    with pytest.raises(ValueError, match=message):
        Effector(embodiment, T_EFFECTOR_WRIST, **options)  # pyright: ignore[reportArgumentType]


def test_embodiments_that_do_not_fit_are_refused() -> None:
    good = make_embodiment()
    rejected(replace(good, poses=(), actions=good.actions[6:]), r"has 0 of: end-effector pose")
    rejected(replace(good, actions=good.actions[:6]), "has 0 of: gripper action")
    rejected(replace(good, states=good.states[:-1]), "has no state 'little_distal'")
    rejected(good, "'right_x' is a position, not a gripper", gripper="right_x")
    second = replace(good.actions[6], name="left_gripper", slot=6)
    rejected(replace(good, actions=(*good.actions, second)), "has 2 of: gripper action.*so name it")
    blind = replace(good.actions[6], hold="last", reference="right_gripper", relative=False, name="g", slot=6)
    Effector(replace(good, actions=(*good.actions, blind)), T_EFFECTOR_WRIST, gripper="g")
    degrees = replace(good.states[-1], unit="deg")
    rejected(replace(good, states=(*good.states[:-1], degrees)), "little_distal' must be in rad; it is in deg")


def test_commands_and_measurements_agree() -> None:
    cell = TouchCell(make_embodiment(), START)
    effector = Effector(cell.embodiment, T_EFFECTOR_WRIST)
    state = cell.observe().state
    assert effector.wrist_pose(state) == pytest.approx(cell.T_base_wrist)
    target = cell.T_base_grasp
    command = effector.command(cell.embodiment.reference_of(state), target, 0.25)
    assert wrist_of(command) == pytest.approx(target, abs=1e-6)
    assert effector.commanded_opening(command) == pytest.approx(0.25)
    assert effector.measured_opening(state) == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"release_opening": 0.0}, "release_opening"),
        ({"max_ticks": 0}, "max_ticks"),
        ({"speed_m_s": -1.0}, "speed_m_s"),
        ({"settle_s": 2.0}, "settle_s 2.0 must be below phase_s"),
        ({"max_ticks": 50}, r"max_ticks 50 at 30 Hz is 1\.7 s; a single step may take"),
    ],
)
def test_configs_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Episode(config=replace(CONFIG, **wrong))  # pyright: ignore[reportArgumentType]


def test_triggers_out_of_range() -> None:
    for wrong, message in (({"on": "touch"}, "known: contact, arm"), ({"num_closed": 0}, "num_closed")):
        with pytest.raises(ValueError, match=message):
            Trigger(**({"on": "contact"} | wrong))  # pyright: ignore[reportArgumentType]
