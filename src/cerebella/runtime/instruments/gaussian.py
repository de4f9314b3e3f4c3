"""The Gaussian oracle: chunks of a known distribution, for which every sampler's right answer has a closed form.

A chunk a of H rows (one number each) is normal, a ~ N(m, C). On the straight path x = tau a + (1 - tau) noise everything
is linear, with S = tau^2 C + (1 - tau)^2 I:

    velocity   v(x, tau)    = m + (tau C - (1 - tau) I) S^-1 (x - tau m)
    denoised   xhat(x, tau) = x + (1 - tau) v = E[a | x]
    Jacobian   d xhat / d x = tau C S^-1

NumPy, float64, whole matrices; nothing is shared with the samplers under test. Noise comes from the caller.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CORRELATION = 0.97


@dataclass(frozen=True, eq=False)
class GaussianChunks:
    """A distribution of chunks.

    Args:
        mean: m, float64[H]. covariance: C, float64[H, H], symmetric, no eigenvalue below 0.

    Raises:
        ValueError: wrong shapes, or no covariance.
    """

    mean: Array
    covariance: Array

    def __post_init__(self) -> None:
        wanted = (len(self.mean), len(self.mean))
        if self.mean.ndim != 1 or self.covariance.shape != wanted:
            raise ValueError(
                f"mean must be float64[H] and covariance float64[H, H]; got {list(self.mean.shape)} and "
                f"{list(self.covariance.shape)}"
            )
        smallest = float(np.linalg.eigvalsh(self.covariance).min(initial=0.0))
        if not np.allclose(self.covariance, self.covariance.T) or smallest < -1e-9:
            raise ValueError(f"covariance must be symmetric without an eigenvalue below 0; the smallest is {smallest}")

    def __len__(self) -> int:
        """H."""
        return len(self.mean)

    def velocity_matrix(self, flow_time: float) -> Array:
        """float64[H, H], the matrix before (x - tau m) in the velocity; flow_time in 0 .. 1, 1 excluded."""
        if not 0 <= flow_time < 1:
            raise ValueError(f"flow_time must be 0 or more and below 1; got {flow_time}")
        identity = np.eye(len(self))
        spread = flow_time**2 * self.covariance + (1 - flow_time) ** 2 * identity
        return (flow_time * self.covariance - (1 - flow_time) * identity) @ np.linalg.inv(spread)

    def velocity(self, x: Array, flow_time: float) -> Array:
        """The exact velocity of the flow, float64[n, H] at x float64[n, H]."""
        return self.mean + (x - flow_time * self.mean) @ self.velocity_matrix(flow_time).T

    def denoised(self, x: Array, flow_time: float) -> Array:
        """E[chunk | x], float64[n, H]."""
        return x + (1 - flow_time) * self.velocity(x, flow_time)

    def denoiser_jacobian(self, flow_time: float) -> Array:
        """d denoised / d x, float64[H, H]; row i is the gradient of entry i."""
        spread = flow_time**2 * self.covariance + (1 - flow_time) ** 2 * np.eye(len(self))
        return flow_time * self.covariance @ np.linalg.inv(spread)

    def after(self, prefix: Array) -> "GaussianChunks":
        """The rows behind a known beginning: the distribution of rows d .. H - 1 given prefix float64[d], 0 <= d < H."""
        d = len(prefix)
        if not 0 <= d < len(self):
            raise ValueError(f"prefix must have 0..{len(self) - 1} rows; got {d}")
        known, across, rest = self.covariance[:d, :d], self.covariance[d:, :d], self.covariance[d:, d:]
        gain = np.linalg.solve(known, across.T).T if d else across
        return GaussianChunks(self.mean[d:] + gain @ (prefix - self.mean[:d]), rest - gain @ across.T)

    def draw(self, num_samples: int, rng: np.random.Generator) -> Array:
        """Chunks, float64[n, H]."""
        return rng.multivariate_normal(self.mean, self.covariance, num_samples, method="eigh")


def autoregressive(horizon: int, correlation: float = CORRELATION) -> GaussianChunks:
    """The stationary AR(1) process of variance 1: rows i and j correlate by correlation^|i - j|. Smooth, as actions are.

    Raises:
        ValueError: horizon below 1, or a correlation that is not between -1 and 1.
    """
    if horizon < 1 or not -1 < correlation < 1:
        raise ValueError(
            f"need a horizon of 1 or more rows and a correlation between -1 and 1; got {horizon}, {correlation}"
        )
    row = np.arange(horizon)
    return GaussianChunks(np.zeros(horizon), correlation ** np.abs(row[:, None] - row[None, :]).astype(np.float64))


def sample(process: GaussianChunks, noise: Array, num_flow_steps: int) -> Array:
    """Noise float64[n, H] to chunks in Euler steps. The mean is exact for any number of steps, the spread in the limit."""
    x = noise
    for k in range(num_flow_steps):
        x = x + process.velocity(x, k / num_flow_steps) / num_flow_steps
    return x


def sample_after(process: GaussianChunks, prefix: Array, noise: Array, num_flow_steps: int) -> Array:
    """What a model trained on prefixes should sample: rows behind the prefix by the exact conditional flow.

    Args:
        prefix: float64[d]. noise: float64[n, H]; its first d rows are not used.
    """
    rest = sample(process.after(prefix), noise[:, len(prefix) :], num_flow_steps)
    return np.concatenate([np.tile(prefix, (len(noise), 1)), rest], axis=1)


def sample_guided(
    process: GaussianChunks,
    noise: Array,
    plan: Array,
    weights: Array,
    beta: float,
    num_flow_steps: int,
    use_jacobian: bool = True,
) -> Array:
    """Guidance at inference time (RTC, arXiv 2506.07339) with the Jacobian as a matrix, term by term as in the paper.

    Args:
        noise: float64[n, H]. plan: float64[H] or [n, H]. weights: float64[H], 0..1. beta: the largest gain.
        use_jacobian: False takes the Jacobian as the identity.
    """
    x = noise
    for k in range(num_flow_steps):
        tau = k / num_flow_steps
        gain = beta if k == 0 else min(beta, (1 - tau) / tau * (tau**2 + (1 - tau) ** 2) / (1 - tau) ** 2)
        pull = (plan - process.denoised(x, tau)) @ np.diag(weights)
        if use_jacobian:
            pull = pull @ process.denoiser_jacobian(tau)
        x = x + (process.velocity(x, tau) + gain * pull) / num_flow_steps
    return x
