"""The oracle against what a textbook says about AR(1), against regression on samples, and against finite differences."""

import numpy as np
import pytest

from cerebella.runtime.instruments.gaussian import (
    GaussianChunks,
    autoregressive,
    sample,
    sample_after,
    sample_guided,
)

PROCESS = GaussianChunks(np.array([0.5, -1.0, 2.0, 0.0]), autoregressive(4, 0.6).covariance * 2)


def test_what_follows_a_prefix_of_an_autoregressive_process_is_known() -> None:
    """Mean rho^k p, variance 1 - rho^(2 k), k rows behind the last one; earlier rows do not matter."""
    k = np.arange(1, 13)
    after = autoregressive(16).after(np.array([9.0, -3.0, 0.0, 1.5]))
    np.testing.assert_allclose(after.mean, 1.5 * 0.97**k, atol=1e-12)
    np.testing.assert_allclose(np.diag(after.covariance), 1 - 0.97 ** (2 * k), atol=1e-12)
    assert np.array_equal(PROCESS.after(np.zeros(0)).covariance, PROCESS.covariance)


@pytest.mark.parametrize("flow_time", [0.0, 0.3, 0.9])
def test_the_velocity_is_the_regression_on_samples(flow_time: float) -> None:
    rng = np.random.default_rng(0)
    chunks, noise = PROCESS.draw(200_000, rng), rng.normal(size=(200_000, 4))
    x = flow_time * chunks + (1 - flow_time) * noise
    columns = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    fitted, *_ = np.linalg.lstsq(columns, chunks - noise, rcond=None)
    np.testing.assert_allclose(PROCESS.velocity(x[:5], flow_time), columns[:5] @ fitted, atol=0.1)


@pytest.mark.parametrize("flow_time", [0.0, 0.3, 0.9])
def test_the_jacobian_is_that_of_the_denoiser(flow_time: float) -> None:
    x = np.random.default_rng(1).normal(size=(1, 4))
    steps = [
        (PROCESS.denoised(x + h, flow_time) - PROCESS.denoised(x - h, flow_time))[0] / 2e-4 for h in np.eye(4) * 1e-4
    ]
    np.testing.assert_allclose(PROCESS.denoiser_jacobian(flow_time), np.stack(steps, axis=1), atol=1e-8)


def test_many_steps_sample_the_distribution() -> None:
    rng = np.random.default_rng(2)
    sampled = sample(PROCESS, rng.normal(size=(20_000, 4)), 200)
    np.testing.assert_allclose(sampled.mean(axis=0), PROCESS.mean, atol=3 * 1.5 / 20_000**0.5)
    np.testing.assert_allclose(np.cov(sampled.T), PROCESS.covariance, atol=0.1)
    behind = sample_after(PROCESS, np.array([3.0]), rng.normal(size=(20_000, 4)), 200)
    assert (behind[:, 0] == 3.0).all()
    np.testing.assert_allclose(behind[:, 1:].mean(axis=0), PROCESS.after(np.array([3.0])).mean, atol=0.04)


def test_guidance_without_weight_is_the_plain_sampler() -> None:
    noise = np.random.default_rng(3).normal(size=(5, 4))
    for use_jacobian in (True, False):
        guided = sample_guided(PROCESS, noise, np.full(4, 9.0), np.zeros(4), 5.0, 7, use_jacobian)
        np.testing.assert_array_equal(guided, sample(PROCESS, noise, 7))


def test_guidance_pulls_the_weighted_rows_to_the_plan() -> None:
    noise = np.random.default_rng(4).normal(size=(500, 4))
    weights = np.array([1.0, 0.0, 0.0, 0.0])
    free, guided = sample(PROCESS, noise, 10), sample_guided(PROCESS, noise, np.full(4, 3.0), weights, 5.0, 10)
    assert np.abs(guided[:, 0] - 3).mean() < 0.2 * np.abs(free[:, 0] - 3).mean()
    assert (guided[:, 1].mean() - free[:, 1].mean()) > 0.5, "neighbours follow, they are correlated"


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[2\] and \[3, 3\]"):
        GaussianChunks(np.zeros(2), np.eye(3))
    with pytest.raises(ValueError, match="eigenvalue below 0; the smallest is -1"):
        GaussianChunks(np.zeros(2), np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"flow_time must be 0 or more and below 1; got 1\.0"):
        PROCESS.velocity(np.zeros((1, 4)), 1.0)
    with pytest.raises(ValueError, match=r"prefix must have 0\.\.3 rows; got 4"):
        PROCESS.after(np.zeros(4))
    with pytest.raises(ValueError, match=r"correlation between -1 and 1; got 4, 1\.0"):
        autoregressive(4, 1.0)
