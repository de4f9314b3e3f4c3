"""The delay of a sensor from a recording of one motion, on synthetic data with a known answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cerebella.robots.calibration import estimate_delay, mean_motion

Vector = NDArray[np.float64]


def motion(stamps_s: Vector, seed: int) -> Vector:
    """An irregular motion, a function of time: slow sines of unrelated periods."""
    generator = np.random.default_rng(seed)
    frequencies, phases = generator.uniform(0.15, 1.5, 6), generator.uniform(0, 6.28, 6)
    return np.sin(2 * np.pi * np.outer(stamps_s, frequencies) + phases).sum(axis=1)


def recording(
    seed: int, delay_s: float, hz: float = 30.0, noise: float = 0.0, scale: float = 1.0
) -> tuple[Vector, Vector, Vector, Vector]:
    """Joints at 100 Hz, and a camera whose stamps are `delay_s` later than its exposures, with jitter."""
    generator = np.random.default_rng(seed + 1000)
    reference_s = np.arange(0.0, 12.0, 0.01)
    exposure_s = np.arange(0.0, 12.0, 1 / hz) + generator.uniform(-0.003, 0.003, round(12 * hz))
    sensor = scale * (motion(exposure_s, seed) + noise * generator.normal(size=len(exposure_s))) + 40.0
    return reference_s, motion(reference_s, seed), np.sort(exposure_s) + delay_s, sensor


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), delay_s=st.floats(-0.2, 0.3), scale=st.sampled_from([-7.0, 0.01, 1.0]))
def test_the_delay_is_found_whatever_scale_and_sign(seed: int, delay_s: float, scale: float) -> None:
    found = estimate_delay(*recording(seed, delay_s, scale=scale))
    assert found.delay_s == pytest.approx(delay_s, abs=0.003)
    assert found.correlation > 0.98


def test_noise_costs_little() -> None:
    errors_s = [abs(estimate_delay(*recording(seed, 0.055, noise=0.5)).delay_s - 0.055) for seed in range(10)]
    assert np.median(errors_s) < 0.01


def test_pictures_against_the_speed_of_a_joint() -> None:
    """A bright bar that moves with the joint, filmed at 30 Hz with 80 ms delay."""
    stamps_s = np.arange(0.0, 12.0, 1 / 30)
    columns = 64 + 8 * motion(stamps_s, 3)
    shade = 255 * np.exp(-0.5 * ((np.arange(128) - columns[:, None]) / 6) ** 2)
    frames = np.repeat(np.repeat(shade[:, None, :, None], 4, axis=1), 3, axis=3).astype(np.uint8)
    joint_s = np.arange(0.0, 12.0, 0.01)
    speed = np.abs(np.gradient(motion(joint_s, 3), joint_s))
    middles_s = (stamps_s[1:] + stamps_s[:-1]) / 2
    found = estimate_delay(joint_s, speed, middles_s + 0.08, mean_motion(frames))
    assert found.delay_s == pytest.approx(0.08, abs=0.008)


def test_what_cannot_be_told_is_refused() -> None:
    reference_s, reference, sensor_s, sensor = recording(0, 0.05)
    with pytest.raises(ValueError, match="does not move"):
        estimate_delay(reference_s, np.ones_like(reference), sensor_s, sensor)
    with pytest.raises(ValueError, match="must increase strictly"):
        estimate_delay(reference_s, reference, sensor_s[::-1], sensor)
    with pytest.raises(ValueError, match="must be finite"):
        estimate_delay(reference_s, np.where(reference > 1, np.nan, reference), sensor_s, sensor)
    with pytest.raises(ValueError, match="two vectors of one length"):
        estimate_delay(reference_s, reference[1:], sensor_s, sensor)
    with pytest.raises(ValueError, match=r"overlap for 0\.00 s"):
        estimate_delay(reference_s, reference, sensor_s + 100, sensor)
    with pytest.raises(ValueError, match="raise max_delay_s"):
        estimate_delay(reference_s, reference, sensor_s + 0.15, sensor, max_delay_s=0.1)
    with pytest.raises(ValueError, match="do not show one motion"):
        estimate_delay(reference_s, reference, sensor_s, np.random.default_rng(0).normal(size=len(sensor)))
    wave = np.sin(2 * np.pi * 2.5 * reference_s)
    with pytest.raises(ValueError, match="periodic"):
        estimate_delay(reference_s, wave, reference_s + 0.05, wave)
    with pytest.raises(ValueError, match="frames must be"):
        mean_motion(np.zeros((1, 4, 4, 3), np.uint8))
