"""Which readings are trusted, and what a refusal says."""

from dataclasses import replace

import numpy as np
import pytest

from cerebella.touch.confidence import ConfidenceLimits, assess, distance_of, distance_problem
from cerebella.touch.grasp import FINGERS
from cerebella.touch.objects import SEEN, disk, plate
from cerebella.touch.reading import Reading
from cerebella.touch.sampling import sample_poses
from cerebella.touch.sensor import sensor_ranges
from cerebella.touch.simulated_hand import Faults

from .tiny_world import ROD, make_hand, make_reading, pose

LIMITS = ConfidenceLimits()


def without(reading: Reading, *fingers: str) -> Reading:
    counts = reading.counts.copy()
    counts[[FINGERS.index(finger) for finger in fingers]] = 0
    return replace(reading, counts=counts)


def test_a_good_grasp_has_no_problem() -> None:
    confidence = assess(make_reading(pose()), LIMITS)
    assert (confidence.problem, confidence.reason, confidence.fingers) == ("", "", FINGERS)


@pytest.mark.parametrize("name", ["trained", "wild"])
def test_ordinary_sensors_and_poses_are_trusted(name: str) -> None:
    """Whatever the training may see must not be refused: gains, noise, drift, some dead and stuck taxels."""
    problems = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = SEEN[seed % len(SEEN)]
        hand = make_hand(sample_poses(shape, 1, rng)[0], shape, sensor_ranges(name).draw(rng), seed=seed)
        confidence = assess(hand.read(), LIMITS)
        if confidence.problem and confidence.problem != "contact":  # a pad at its edge may really miss
            problems.append((shape.name, confidence.reason))
    assert not problems


def test_without_thumb_or_fingers_there_is_no_grasp() -> None:
    reading = make_reading(pose())
    confidence = assess(without(reading, "thumb"), LIMITS)
    assert confidence.problem == "contact"
    assert "no thumb and 4 fingers touch" in confidence.reason
    confidence = assess(without(reading, *FINGERS[1:]), LIMITS)
    assert "the thumb and 0 fingers touch, needed are the thumb and 1" in confidence.reason
    assert "loaded taxels: thumb" in confidence.reason
    assert not assess(without(reading, *FINGERS[2:]), LIMITS).problem
    assert assess(without(reading, *FINGERS[2:]), ConfidenceLimits(min_opposing=2)).problem == "contact"


@pytest.mark.parametrize("finger", FINGERS[1:])
def test_a_finger_between_others_that_feels_nothing_is_dead(finger: str) -> None:
    for shape, roll_deg in ((ROD, 0), (ROD, 3), (plate(5, 110, 50), -2)):
        confidence = assess(without(make_reading(pose(roll_deg=roll_deg), shape), finger), LIMITS)
        assert (confidence.problem, confidence.dead_fingers) == ("dead finger", (finger,))
        assert f"{finger} feels nothing" in confidence.reason


def test_a_finger_that_missed_the_object_is_not_dead() -> None:
    reading = without(make_reading(pose()), "ring")
    joints = reading.joints.copy()
    joints[7] += 0.5
    assert not assess(replace(reading, joints=joints), LIMITS).dead_fingers  # it closed further
    assert not assess(make_reading(pose(z_mm=-3), disk(6, 70)), LIMITS).dead_fingers  # beside the rim
    for roll_deg in range(-16, 17, 2):  # the edge leaves the array of an outer finger
        assert not assess(make_reading(pose(z_mm=2, roll_deg=roll_deg), plate(5, 110, 50)), LIMITS).dead_fingers
        assert not assess(make_reading(pose(z_mm=2, roll_deg=roll_deg)), LIMITS).dead_fingers


def test_masked_dead_fingers_are_no_problem() -> None:
    reading = without(make_reading(pose()), "ring")
    confidence = assess(reading, LIMITS, num_masked=1)
    assert (confidence.problem, confidence.dead_fingers) == ("", ("ring",))


def test_a_saturated_hand_is_refused() -> None:
    hand = make_hand(pose(), faults=Faults(gain=20.0))
    confidence = assess(hand.read(), LIMITS)
    assert confidence.problem == "saturated"
    assert "loaded taxels say 255, allowed are 30%" in confidence.reason
    everything = Reading(np.full((5, 11, 9), 255, dtype=np.uint8), hand.read().joints)
    assert assess(everything, LIMITS).problem == "saturated"


def test_dead_taxels_are_seen_where_the_neighbours_are_loaded() -> None:
    shares = []
    for seed in range(10):
        hand = make_hand(pose(), faults=Faults(dead_taxel_share=0.2), seed=seed)
        shares.append(assess(hand.read(), LIMITS).dead_share)
    assert 0.12 < np.mean(shares) < 0.28
    assert assess(make_reading(pose()), LIMITS).dead_share == 0
    confidence = assess(make_hand(pose(), faults=Faults(dead_taxel_share=0.35)).read(), LIMITS)
    assert confidence.problem == "dead taxels"
    assert "taxels between loaded neighbours are dead" in confidence.reason


def test_stuck_taxels_are_counted() -> None:
    reading = make_reading(pose())
    counts = reading.counts.copy()
    counts[:, 0, 0] = 200  # a corner, far from the rod
    counts[1:, 10, 8] = 90
    confidence = assess(replace(reading, counts=counts), LIMITS)
    assert (confidence.problem, confidence.num_stuck) == ("stuck taxels", 9)
    assert "9 taxels are stuck" in confidence.reason


def test_drift_is_no_contact() -> None:
    drifted = Reading(np.full((5, 11, 9), 7, dtype=np.uint8), np.zeros(11, dtype=np.float32))
    assert assess(drifted, LIMITS).problem == "contact"


def test_the_distance_is_in_units_of_the_calibrated_limit() -> None:
    embedding = np.array([3.0, 4.0], dtype=np.float32)
    assert distance_of(embedding, {"distance_limit": 10.0}) == pytest.approx(0.5)
    assert not distance_problem(0.99, LIMITS)
    assert "outside the trained distribution: the embedding lies at 1.30" in distance_problem(1.3, LIMITS)
    assert distance_problem(float("nan"), LIMITS)
    for calibration in ({}, {"distance_limit": 0.0}, {"distance_limit": float("nan")}):
        with pytest.raises(ValueError, match="needs 'distance_limit'"):
            distance_of(embedding, calibration)


@pytest.mark.parametrize(
    "wrong",
    [{"min_opposing": 0}, {"min_opposing": 5}, {"max_saturated_share": 1.5}, {"max_stuck": -1}, {"max_distance": 0.0}],
)
def test_limits_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ConfidenceLimits(**wrong)  # pyright: ignore[reportArgumentType]
