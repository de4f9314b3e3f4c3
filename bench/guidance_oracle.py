"""Guidance at inference time, scored where the right answer is known, and what it costs.

    .venv/bin/python bench/guidance_oracle.py                  under a minute on one slow core

Accuracy: our sampler on a Gaussian chunk process (AR(1), correlation 0.97, H = 16, s = 4) whose conditional distribution has
a closed form. The committed rows are 1.5 standard deviations off the mean. `error` is the mean |error| of the mean behind
them, `seam` the mean size of the step from the last committed row to the next; the exact seam is known, a smaller one is
over-smoothing, not quality. `copied` asks how much of a plan that has become wrong by 1 behind its committed rows comes
back. Parity: every guided number is compared with a dense NumPy sampler that has the Jacobian as a matrix.

Cost: CPU time of the guided flow over the plain one, micro preset, one thread, interleaved. Prints tables, then one JSON
object as the last line.
"""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from measure.command import run
from measure.request import Geometry, make_request
from measure.timing import Rounds, interleave, ratio
from measure.weights import random_model
from torch import Tensor

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.models import flow
from cerebella.models.config import preset
from cerebella.models.guidance import BETA, Ramp, Velocity, guidance_weights, guide
from cerebella.runtime.instruments import gaussian
from cerebella.runtime.instruments.gaussian import Array, GaussianChunks, autoregressive

HORIZON, EXECUTE_HORIZON, COMMITTED = 16, 4, 1.5
STEPS = (5, 10, 50)
GUIDED: dict[str, tuple[Ramp, bool]] = {
    "guided, hard, Jacobian": ("hard", True),
    "guided, hard, identity": ("hard", False),
    "guided, soft, Jacobian": ("soft", True),
    "guided, soft, identity": ("soft", False),
}
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Options:
    """What to measure."""

    samples: int = 20_000
    """chunks per cell, 100 or more"""
    delay: int = 4
    """committed rows, 1..11"""
    rounds: int = 15
    """interleaved rounds of the cost, 3 or more"""
    seed: int = 0
    """of the noise"""


def check(options: Options) -> None:
    """Raise a ValueError for what cannot be measured."""
    if options.samples < 100:
        raise ValueError(f"--samples must be 100 or more; got {options.samples}")
    if not 1 <= options.delay < HORIZON - EXECUTE_HORIZON:
        raise ValueError(f"--delay must be in 1..{HORIZON - EXECUTE_HORIZON - 1} rows; got {options.delay}")
    Rounds(options.rounds)


def main(options: Options) -> None:
    """Accuracy, then cost."""
    torch.set_num_threads(1)
    process, d = autoregressive(HORIZON), options.delay
    after = process.after(np.full(d, COMMITTED))
    exact_seam = float(np.abs(after.draw(1_000_000, np.random.default_rng(options.seed))[:, 0] - COMMITTED).mean())
    print(
        f"AR(1), H = {HORIZON}, d = {d}, s = {EXECUTE_HORIZON}, {options.samples} samples; exact seam {exact_seam:.3f}"
    )
    print(f"{'error / seam':<28}" + "".join(f"{f'n = {steps}':>16}" for steps in STEPS) + f"{'copied (n = 5, 10)':>22}")
    rows: dict[str, dict[str, Any]] = {name: {"scores": row} for name, row in _unguided(process, options).items()}
    rows |= {name: _guided_row(process, options, name) for name in GUIDED}
    for name, row in rows.items():
        cells = "".join(f"{error:>9.2f} / {seam:.2f}" for error, seam in row["scores"].values())
        copied = "".join(f"{share:>11.2f}" for share in row.get("copied", {}).values())
        print(f"{name:<28}{cells}{copied}")
    difference = max(row["max_abs_from_dense"] for row in rows.values() if "max_abs_from_dense" in row)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"guidance differs from the dense sampler by {difference:.1e}, more than {TOLERANCE:.0e}")
    cost = _cost(options)
    report = {
        "bench": "guidance_oracle",
        "schema_version": 1,
        "horizon": HORIZON,
        "execute_horizon": EXECUTE_HORIZON,
        "delay_rows": d,
        "beta": BETA,
        "num_samples": options.samples,
        "exact_seam": round(exact_seam, 4),
        "rows": rows,
        "max_abs_from_dense": difference,
        "cost": cost,
        "run": run_fingerprint(options.seed),
    }
    print(json.dumps(report))


def _noise(options: Options) -> Array:
    return np.random.default_rng(options.seed).normal(size=(options.samples, HORIZON))


def _score(process: GaussianChunks, sampled: Array, d: int) -> tuple[float, float]:
    """Mean |error| of the mean behind the committed rows, and the mean seam."""
    error = np.abs(sampled[:, d:].mean(axis=0) - process.after(np.full(d, COMMITTED)).mean).mean()
    return round(float(error), 4), round(float(np.abs(sampled[:, d] - COMMITTED).mean()), 4)


def _unguided(process: GaussianChunks, options: Options) -> dict[str, dict[int, tuple[float, float]]]:
    """The exact conditional flow, a prefix put into a model that was not trained for one, and no conditioning at all."""
    noise, d = _noise(options), options.delay
    length, plain = torch.full((len(noise),), d), _velocity(process)
    is_noisy = flow.rows_are_noisy(length, HORIZON)
    start = torch.from_numpy(noise)[..., None]
    start = flow.join_prefix(torch.full_like(start, COMMITTED), start, length)

    def frozen(x: Tensor, flow_time: Tensor) -> Tensor:
        return plain(x, flow_time).masked_fill(~is_noisy, 0.0)

    scores: dict[str, dict[int, tuple[float, float]]] = {}
    for steps in STEPS:
        for name, sampled in (
            ("exact conditional flow", gaussian.sample_after(process, np.full(d, COMMITTED), noise, steps)),
            ("prefix forced, untrained", flow.euler(frozen, start, steps)[..., 0].numpy()),
            ("no conditioning", gaussian.sample(process, noise, steps)),
        ):
            scores.setdefault(name, {})[steps] = _score(process, sampled, d)
    return scores


def _guided_row(process: GaussianChunks, options: Options, name: str) -> dict[str, Any]:
    """Scores of a guided sampler whose plan is one right continuation of each sample, and what it copies of a wrong one."""
    noise, d = _noise(options), options.delay
    rng = np.random.default_rng(options.seed + 1)
    plan = np.full(noise.shape, COMMITTED)
    plan[:, d:] = process.after(plan[0, :d]).draw(len(noise), rng)
    wrong = plan.copy()
    wrong[:, d:] += 1
    scores, copied, difference = {}, {}, 0.0
    for steps in STEPS:
        sampled = _guided(process, noise, plan, d, name, steps)
        scores[steps] = _score(process, sampled, d)
        few = slice(0, 200)
        dense = gaussian.sample_guided(
            process, noise[few], plan[few], _weights(d, name)[0].double().numpy(), BETA, steps, GUIDED[name][1]
        )
        difference = max(difference, float(np.abs(sampled[few] - dense).max()))
        if steps != STEPS[-1]:
            moved = (_guided(process, noise, wrong, d, name, steps) - sampled).mean(axis=0)
            copied[steps] = round(float(moved[d : HORIZON - EXECUTE_HORIZON].mean()), 4)
    return {"scores": scores, "copied": copied, "max_abs_from_dense": difference}


def _weights(d: int, name: str) -> Tensor:
    frozen, execute_horizon, num_rows = (torch.tensor([number]) for number in (d, EXECUTE_HORIZON, HORIZON))
    return guidance_weights(frozen, execute_horizon, num_rows, HORIZON, GUIDED[name][0])


def _guided(process: GaussianChunks, noise: Array, plan: Array, d: int, name: str, steps: int) -> Array:
    target = torch.from_numpy(plan)[..., None]
    weights = _weights(d, name).double()[..., None].expand_as(target)
    guided = guide(_velocity(process), target, weights, GUIDED[name][1])
    return flow.euler(guided, torch.from_numpy(noise)[..., None], steps)[..., 0].numpy()


def _velocity(process: GaussianChunks) -> Velocity:
    """The exact velocity in torch, float64[B, H, 1]."""
    mean = torch.from_numpy(process.mean)

    def velocity(x: Tensor, flow_time: Tensor) -> Tensor:
        tau = float(flow_time[0])
        return (mean + (x[..., 0] - tau * mean) @ torch.from_numpy(process.velocity_matrix(tau)).T)[..., None]

    return velocity


def _cost(options: Options) -> dict[str, Any]:
    """CPU time over that of the plain sampler: of the flow alone, and of a whole inference with the brain."""
    config = preset("micro")
    model = random_model(config, torch.float32)
    request = make_request(config, Geometry.parse("1x64"))
    batch, noise = request.batch, request.noise
    plan = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1))
    weights = _weights(options.delay, "guided, soft, Jacobian")
    with torch.no_grad():
        context = model.encode(batch)

    def plain(whole: bool) -> Tensor:
        with torch.no_grad():
            seen = model.encode(batch) if whole else context
            return model.sample(seen, batch.state, noise, batch.action_mask)

    def guided(whole: bool, use_jacobian: bool) -> Tensor:
        with torch.no_grad():
            seen = model.encode(batch) if whole else context
            return model.sample_guided(seen, batch.state, noise, batch.action_mask, plan, weights, use_jacobian)

    cost: dict[str, Any] = {"preset": config.name, "geometry": "1x64", "num_flow_steps": config.num_flow_steps}
    print(f"\n{'CPU time over plain (micro)':<28}{'Jacobian':>20}{'identity':>20}{'null check':>20}")
    for part, whole in (("flow alone", False), ("whole inference", True)):
        timings = interleave(
            {
                "plain": lambda whole=whole: plain(whole),
                "jacobian": lambda whole=whole: guided(whole, True),
                "identity": lambda whole=whole: guided(whole, False),
                "plain again": lambda whole=whole: plain(whole),
            },
            Rounds(options.rounds),
        )
        ratios = {name: ratio(timings[name].cpu_s, timings["plain"].cpu_s) for name in list(timings)[1:]}
        print(f"{part:<28}" + "".join(f"{value!s:>20}" for value in ratios.values()))
        cost[part] = {
            "cpu_ms_plain": round(1e3 * timings["plain"].median_s, 3),
            **{name: asdict(value) for name, value in ratios.items()},
        }
    return cost


if __name__ == "__main__":
    sys.exit(run(Options, check, main, __doc__))
