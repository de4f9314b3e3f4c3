"""Metrics against command streams made by hand, whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.evaluation import metrics
from cerebella.evaluation.metrics import CommandLog, command_log
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig, Mode
from cerebella.runtime.instruments.tagged import TaggedPolicy, make_metadata, make_observation
from cerebella.runtime.trace import Outcome, RequestRecord, TickRecord
from cerebella.runtime.transport import VirtualTransport, batched


def make_log(x_m: list[float], chunk_id: list[int], sent_s: list[float] | None = None) -> CommandLog:
    """Commands along x; chunk -1 means holding. Each chunk's observation is 3 ticks older than its first tick."""
    trace = []
    for tick, (x, chunk) in enumerate(zip(x_m, chunk_id, strict=True)):
        values = np.array([x, 0.1, 1.0], dtype=np.float32)
        trace.append(
            TickRecord(
                tick=tick,
                state="hold" if chunk < 0 else "run",
                values=values,
                raw=values,
                chunk_id=chunk,
                row=0,
                observation_tick=-1 if chunk < 0 else chunk_id.index(chunk) - 3,
                sent_s=tick / 30 if sent_s is None else sent_s[tick],
            )
        )
    return command_log(trace, CONVEYOR)


def test_idle_share_starts_with_the_first_plan() -> None:
    log = make_log([0.0] * 12, [-1, -1, 0, 0, 0, 0, -1, -1, 1, 1, 1, 1])
    assert metrics.startup_ticks(log) == 2
    assert metrics.idle_share([log]) == pytest.approx(2 / 10)
    assert metrics.cycle_idle_share([log]) == pytest.approx(2 / 6)  # r / (s + r) with r = 2, s = 4


def test_idle_share_of_a_robot_that_never_gets_a_plan_is_one() -> None:
    log = make_log([0.0] * 5, [-1] * 5)
    assert metrics.idle_share([log]) == 1.0
    assert metrics.cycle_idle_share([log]) is None
    assert metrics.idle_share([]) is None


def test_seam_ratio_compares_the_step_at_the_hand_over_with_the_usual_one() -> None:
    log = make_log([0.00, 0.01, 0.02, 0.03, 0.07, 0.08, 0.09], [0, 0, 0, 0, 1, 1, 1])
    assert metrics.seams(log).tolist() == [4]
    assert metrics.seam_ratios(log) == pytest.approx([4.0], rel=1e-4)


def test_a_jump_behind_the_promised_rows_counts_as_the_seam() -> None:
    """The hand-over itself repeats what was promised; the new chunk's own first row is where it could jump."""
    log = make_log([0.00, 0.01, 0.02, 0.03, 0.04, 0.05, 0.10, 0.11], [0, 0, 0, 0, 1, 1, 1, 1])
    assert metrics.seam_ratios(log) == pytest.approx([1.0], rel=1e-4)
    promised = np.array([False] * 4 + [True] * 2 + [False] * 2)
    assert metrics.seam_ratios(replace(log, is_promised=promised)) == pytest.approx([5.0], rel=1e-4)


def test_seam_after_waiting_starts_at_the_held_command() -> None:
    log = make_log([0.00, 0.01, 0.02, 0.02, 0.02, 0.05, 0.06], [0, 0, 0, -1, -1, 1, 1])
    assert metrics.seams(log).tolist() == [5]
    assert metrics.seam_ratios(log) == pytest.approx([3.0], rel=1e-4)


def test_the_first_plan_is_no_seam_and_a_robot_at_rest_has_no_ratio() -> None:
    assert metrics.seams(make_log([0.1] * 4, [-1, 0, 0, 0])).size == 0
    assert metrics.seam_ratios(make_log([0.1, 0.1, 0.1, 0.2], [0, 0, 0, 1])).size == 0


def test_jerk_of_a_cubic_is_its_third_derivative() -> None:
    seconds = np.arange(20) / 30
    log = make_log([float(0.2 * t**3) for t in seconds], [0] * 20)
    assert metrics.jerk_rms(log) == pytest.approx(1.2, rel=2e-2)  # float32 commands, differenced three times
    assert metrics.jerk_rms(make_log([0.0] * 3, [0] * 3)) is None


def test_observation_age_counts_from_the_exposure() -> None:
    log = make_log([0.0] * 5, [-1, 0, 0, 1, 1])
    assert metrics.observation_age_ticks(log).tolist() == [3, 4, 3, 4]


def test_jitter_is_measured_between_commands_and_phase_against_the_schedule() -> None:
    period_s = 1 / 30
    sent_s = [5.0, 5.0 + period_s + 0.004, 5.0 + 2 * period_s, 5.0 + 3 * period_s + 0.002]
    log = make_log([0.0] * 4, [0] * 4, sent_s)
    assert metrics.period_errors_ms(log) == pytest.approx([4.0, 4.0, 2.0])
    assert metrics.phase_errors_ms(log) == pytest.approx([0.0, 4.0, 0.0, 2.0], abs=1e-9)


def test_reaction_is_the_first_tick_that_leaves_the_twin() -> None:
    twin = make_log([0.01 * i for i in range(10)], [0] * 10)
    moved = make_log([0.01 * i + (0.005 if i >= 7 else 0.001) for i in range(10)], [0] * 10)
    assert metrics.parting_tick(moved, twin) == 7
    assert metrics.reaction_ticks(moved, twin, perturbation_tick=4) == 3
    assert metrics.reaction_ticks(twin, twin, perturbation_tick=4) is None
    assert metrics.reaction_ticks(moved, twin, perturbation_tick=-1) is None
    with pytest.raises(ValueError, match=r"not a twin run.*tick 7"):
        metrics.reaction_ticks(moved, twin, perturbation_tick=8)


@pytest.mark.parametrize(
    ("mode", "delay", "execute_horizon", "num_promised"),
    [
        ("naive", 0, 8, 0),
        ("naive", 4, 8, 0),
        ("prefix", 4, 8, 4),
        ("guided", 2, 3, 2),
        ("naive", 5, 3, 0),
        ("sync", 4, 6, 0),
    ],
)
def test_the_reaction_law_is_that_of_the_executor(
    mode: Mode, delay: int, execute_horizon: int, num_promised: int
) -> None:
    """An event in every tick of four cycles: when is the first row played that a chunk from a later look decided?"""
    law = metrics.reaction_law(delay, execute_horizon, num_promised, is_waiting=mode == "sync")
    assert law.sum() == pytest.approx(1.0)
    policy = TaggedPolicy(make_metadata(20, 19))
    transport = VirtualTransport(batched(policy), lambda number: delay)
    executor = Executor(policy.metadata, ExecutorConfig(mode, execute_horizon), transport, DelayEstimator(delay))
    for tick in range(200):
        executor.observe(make_observation(tick))
        executor.command()
    cycle = int((law > 0).sum())
    reactions = [
        next(r.tick for r in executor.trace if r.observation_tick >= event and not r.is_promised) - event
        for event in range(100, 100 + 4 * cycle)
    ]
    np.testing.assert_allclose(np.bincount(reactions, minlength=len(law)) / len(reactions), law)
    assert metrics.law_distance(reactions, law) == pytest.approx(0.0, abs=1e-12)


def test_the_distance_from_a_law_is_that_of_kolmogorov_and_smirnov() -> None:
    law = metrics.reaction_law(2, 4)  # 2, 3, 4, 5, each a quarter
    assert metrics.law_distance([2, 2, 2, 2], law) == pytest.approx(0.75)
    assert metrics.law_distance([5, 3, 4, 2], law) == pytest.approx(0.0)
    assert metrics.law_distance([9, 2], law) == pytest.approx(0.5)
    generator = np.random.default_rng(0)
    samples = [metrics.law_distance(generator.integers(2, 6, 50).tolist(), law) for _ in range(400)]
    assert np.mean(np.array(samples) > 1.36 / np.sqrt(50)) < 0.05
    for sample, bad in (([], law), ([-1], law), ([2], law * 2)):
        with pytest.raises(ValueError, match="probabilities that sum to 1"):
            metrics.law_distance(sample, bad)
    with pytest.raises(ValueError, match="execute_horizon of 1 or more"):
        metrics.reaction_law(1, 0)


def test_copy_share_is_the_part_of_the_way_back_to_the_stale_plan() -> None:
    generator = np.random.default_rng(1)
    old, right = generator.normal(size=(2, 5, 8, 3)).astype(np.float32)
    for share in (0.0, 0.3, 1.0):
        assert metrics.copy_share(right + share * (old - right), old, right) == pytest.approx(share, abs=1e-6)
    stale = old - right
    sideways = generator.normal(size=stale.shape)
    sideways -= stale * (sideways * stale).sum() / (stale * stale).sum()
    assert metrics.copy_share((right + sideways).astype(np.float32), old, right) == pytest.approx(0.0, abs=1e-6)
    assert metrics.copy_share(old, right, right) is None
    with pytest.raises(ValueError, match="must have one shape"):
        metrics.copy_share(old[:1], old, right)


def test_plan_disagreement_looks_at_the_overlap_beyond_the_prefix() -> None:
    old = np.arange(8, dtype=np.float32)[:, None]
    new = old[3:] + np.array([[0], [0], [1], [1], [3]], dtype=np.float32)
    assert metrics.plan_disagreement(old, new, shift=3, prefix_length=2) == pytest.approx(5 / 3)
    assert metrics.plan_disagreement(old, new, shift=8, prefix_length=0) is None


def test_episode_metrics_count_how_requests_ended() -> None:
    records = [RequestRecord(i, i, 0.0, np.zeros((0, 3), dtype=np.float32), 2) for i in range(4)]
    outcomes: tuple[Outcome, ...] = ("used", "late", "rejected", "in flight")
    for record, outcome in zip(records, outcomes, strict=True):
        record.outcome = outcome
    row = metrics.episode_metrics(make_log([0.00, 0.01, 0.03], [0, 0, 1]), records)
    assert (row["requests"], row["late"], row["rejected"], row["num_seams"]) == (4, 1, 1, 1)
    assert row["seam_ratio_max"] == pytest.approx(2.0, rel=1e-4)
