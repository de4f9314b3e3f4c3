"""What a sensor does to forces, as properties."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.touch.sensor import (
    COUNTS_PER_NEWTON,
    FULL_SCALE_N,
    SENSORS,
    Sensor,
    SensorRanges,
    nominal_sensor,
    sensor_ranges,
    to_newtons,
)

RNG = np.random.default_rng
SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.sampled_from(sorted(SENSORS))


def random_forces(seed: int, most_n: float = 0.8, lead: tuple[int, ...] = ()) -> np.ndarray:
    rng = RNG(seed)
    forces = rng.uniform(0, most_n, (*lead, 5, 11, 9)) * (rng.random((*lead, 5, 11, 9)) < 0.3)
    return forces.astype(np.float32)


def silent(sensor: Sensor) -> Sensor:
    return replace(sensor, noise_n=np.zeros_like(sensor.noise_n))


@given(SEEDS)
@settings(max_examples=20)
def test_the_nominal_sensor_only_quantises(seed: int) -> None:
    forces = random_forces(seed)
    counts = nominal_sensor().counts(forces, RNG(0))
    assert counts.dtype == np.uint8
    np.testing.assert_array_equal(counts, np.minimum(np.rint(forces * np.float32(COUNTS_PER_NEWTON)), 255))
    inside = forces < FULL_SCALE_N
    np.testing.assert_allclose(to_newtons(counts)[inside], forces[inside], atol=0.5001 / COUNTS_PER_NEWTON)
    np.testing.assert_array_equal(nominal_sensor().counts(to_newtons(counts), RNG(0)), counts)


@given(SEEDS, NAMES)
@settings(max_examples=40)
def test_more_force_never_reads_less(seed: int, name: str) -> None:
    sensor = silent(SENSORS[name].draw(RNG(seed)))
    forces = random_forces(seed)
    more = forces + random_forces(seed + 1, 0.3)
    assert (sensor.counts(more, RNG(0)) >= sensor.counts(forces, RNG(0))).all()


@given(SEEDS, NAMES)
@settings(max_examples=20)
def test_without_noise_a_reading_repeats_and_with_noise_the_seed_decides(seed: int, name: str) -> None:
    sensor, forces = SENSORS[name].draw(RNG(seed)), random_forces(seed)
    np.testing.assert_array_equal(silent(sensor).counts(forces, RNG(1)), silent(sensor).counts(forces, RNG(2)))
    np.testing.assert_array_equal(sensor.counts(forces, RNG(1)), sensor.counts(forces, RNG(1)))


@given(SEEDS, NAMES)
@settings(max_examples=20)
def test_dead_taxels_stay_dead_and_the_others_do_not_change(seed: int, name: str) -> None:
    sensor, forces = SENSORS[name].draw(RNG(seed)), random_forces(seed) + np.float32(0.2)
    is_dead = RNG(seed + 1).random((5, 11, 9)) < 0.2
    before, after = sensor.counts(forces, RNG(0)), sensor.with_dead(is_dead).counts(forces, RNG(0))
    assert not after[is_dead].any()
    np.testing.assert_array_equal(after[~is_dead], before[~is_dead])


@given(SEEDS)
@settings(max_examples=20)
def test_everything_saturates(seed: int) -> None:
    sensor = silent(SENSORS["wild"].draw(RNG(seed)))
    works = sensor.stuck_at < 0
    counts = sensor.counts(np.full((5, 11, 9), 50.0), RNG(0))
    assert (counts[works] == 255).all()
    np.testing.assert_array_equal(counts[~works], sensor.stuck_at[~works])


@given(SEEDS, st.floats(0, 0.2))
@settings(max_examples=20)
def test_cross_talk_moves_force_and_keeps_its_sum(seed: int, share: float) -> None:
    forces = random_forces(seed, 0.3)
    sensor = replace(nominal_sensor(), cross_talk=np.float32(share))
    felt = to_newtons(sensor.counts(forces, RNG(0)))
    np.testing.assert_allclose(felt.sum((1, 2)), forces.sum((1, 2)), atol=99 * 0.5 / COUNTS_PER_NEWTON)
    single = np.zeros((5, 11, 9), np.float32)
    single[2, 0, 4] = 0.5
    seen = np.argwhere(replace(sensor, cross_talk=np.float32(0.1)).counts(single, RNG(0))).tolist()
    assert seen == [[2, 0, 3], [2, 0, 4], [2, 0, 5], [2, 1, 4]]


def test_gains_border_and_drift_act_where_they_should() -> None:
    forces = np.full((5, 11, 9), 0.2, np.float32)
    border = SensorRanges(border_gain=(0.5, 0.5)).draw(RNG(0)).counts(forces, RNG(0))
    assert (border[:, 1:-1, 1:-1] == 85).all()
    assert (border[:, 0] == 42).all()
    assert (border[:, :, -1] == 42).all()
    finger = SensorRanges(finger_gain=(0.8, 1.2), gain=(2.0, 2.0)).draw(RNG(0)).counts(forces, RNG(0))
    assert len(np.unique(finger)) == 5
    assert all(len(np.unique(one)) == 1 for one in finger)
    assert 136 <= finger.min() <= finger.max() <= 204
    ranges = SensorRanges(offset_n=(-0.1, 0.1), taxel_gain=(0.9, 1.1))
    sensor = ranges.draw(RNG(0))
    later = ranges.drifted(sensor, RNG(1))
    change = later.counts(forces, RNG(0)).astype(int) - sensor.counts(forces, RNG(0))
    assert all(np.ptp(one) <= 1 for one in change)
    assert np.ptp(change) > 1
    np.testing.assert_array_equal(later.gain, sensor.gain)


def test_noise_has_the_spread_that_it_says() -> None:
    sensor = replace(nominal_sensor(), noise_n=np.float32(0.02))
    counts = sensor.counts(np.full((40, 5, 11, 9), 0.3), RNG(0)).astype(float)
    assert counts.std() / COUNTS_PER_NEWTON == pytest.approx(0.02, rel=0.03)
    assert counts.mean() / COUNTS_PER_NEWTON == pytest.approx(0.3, rel=0.01)


def test_shares_of_broken_taxels() -> None:
    stuck_at = SensorRanges(dead_share=(0.1, 0.1), stuck_share=(0.05, 0.05)).draw(RNG(0), 60).stuck_at
    assert (stuck_at == 0).mean() == pytest.approx(0.1, rel=0.1)
    assert (stuck_at > 0).mean() == pytest.approx(0.05, rel=0.1)
    assert stuck_at.max() > 240


@pytest.mark.parametrize("name", SENSORS)
def test_many_sensors_read_as_each_by_itself(name: str) -> None:
    forces = random_forces(3, lead=(2, 7))
    sensors = silent(SENSORS[name].draw(RNG(4), 7))
    together = sensors.counts(forces, RNG(0))
    assert together.shape == (2, 7, 5, 11, 9)
    for i in range(7):
        one = Sensor(
            sensors.gain[i], sensors.cross_talk[i], sensors.offset_n[i], sensors.noise_n[i], sensors.stuck_at[i]
        )
        np.testing.assert_array_equal(one.counts(forces[:, i], RNG(0)), together[:, i])


def test_half_precision_forces_are_fine() -> None:
    forces = random_forces(5).astype(np.float16)
    np.testing.assert_array_equal(
        nominal_sensor().counts(forces, RNG(0)), nominal_sensor().counts(forces.astype(np.float32), RNG(0))
    )


def test_wild_is_wider_than_trained_in_everything() -> None:
    assert json.dumps(asdict(SENSORS["wild"]))
    for name, (low, high) in asdict(SENSORS["trained"]).items():
        wild_low, wild_high = getattr(SENSORS["wild"], name)
        assert wild_high >= high, name
        assert wild_low <= low or name in ("cross_talk", "noise_n"), name
        assert wild_high - wild_low >= high - low, name


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match=r"unknown sensor 'tame'; known: nominal, trained, wild"):
        sensor_ranges("tame")
    with pytest.raises(ValueError, match=r"forces \(N\) must have the shape \[..., 5, 11, 9\]; got \[11, 9\]"):
        nominal_sensor().counts(np.zeros((11, 9)), RNG(0))
    with pytest.raises(ValueError, match=r"Sensor.gain must have the shape \[..., 5, 11, 9\]; got \[5, 9, 11\]"):
        replace(nominal_sensor(), gain=np.ones((5, 9, 11), np.float32))
    with pytest.raises(ValueError, match=r"Sensor.cross_talk must be finite and in 0..0.2"):
        replace(nominal_sensor(), cross_talk=np.float32(0.3))
    with pytest.raises(ValueError, match=r"Sensor.noise_n must be finite"):
        replace(nominal_sensor(), noise_n=np.float32(np.nan))
    with pytest.raises(ValueError, match=r"SensorRanges.dead_share must be \(low, high\) in 0..0.5"):
        SensorRanges(dead_share=(0.2, 0.1))
