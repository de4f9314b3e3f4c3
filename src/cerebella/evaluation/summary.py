"""From episodes to the summary row of a cell: one mode at one delay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cerebella.evaluation import metrics
from cerebella.evaluation.result import episode_row, success_summary
from cerebella.evaluation.rollout import Episode
from cerebella.evaluation.statistics import bootstrap_interval, quantiles
from cerebella.interfaces import PolicyMetadata


@dataclass(frozen=True)
class Cell:
    """One condition of an evaluation: what `conditions.cells` of a result says about it.

    Args:
        delay: ticks on the virtual clock, milliseconds of total latency on the wall clock (`delay_unit`); the mean, where
            it varies.
        trace: name of the delays, where they vary by a trace.
    """

    mode: str
    delay: float
    delay_unit: Literal["tick", "ms"]
    execute_horizon: int
    metadata: PolicyMetadata
    trace: str = ""

    @property
    def name(self) -> str:
        """E.g. `prefix/4 ticks` or `prefix/burst`."""
        if self.trace:
            return f"{self.mode}/{self.trace}"
        unit = "ms" if self.delay_unit == "ms" else ("tick" if self.delay == 1 else "ticks")
        return f"{self.mode}/{self.delay:g} {unit}"

    @property
    def delay_label(self) -> str:
        """E.g. `4 ticks`."""
        return self.name.split("/", 1)[1]

    def as_dict(self) -> dict[str, Any]:
        """For the result file."""
        return {
            "name": self.name,
            "mode": self.mode,
            "delay": self.delay,
            "delay_unit": self.delay_unit,
            "execute_horizon": self.execute_horizon,
            "horizon": self.metadata.horizon,
            "max_trained_prefix": self.metadata.max_trained_prefix,
        }


def episode_rows(cell: Cell, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """The rows of a cell, in the order given."""
    return [
        episode_row(
            cell=cell.name,
            seed=episode.seed,
            task=episode.task,
            prompt=episode.prompt,
            is_success=episode.status.is_success,
            num_ticks=episode.log.num_ticks,
            reason=episode.status.reason,
            metrics=episode.metrics,
        )
        for episode in episodes
    ]


def summarise(cell: Cell, episodes: Sequence[Episode], on_wall_clock: bool) -> dict[str, Any]:
    """The summary row: success, throughput, idleness, smoothness, timing. Formulas are in `metrics`.

    Control-period numbers are None on the virtual clock, where every period is exact by construction.

    Raises:
        ValueError: no episodes.
    """
    if not episodes:
        raise ValueError(f"cell {cell.name}: there is no episode to summarise")
    control_hz = cell.metadata.embodiment.control_hz
    logs = [episode.log for episode in episodes]
    requests = [request for episode in episodes for request in episode.requests]
    arrived = [request for request in requests if request.consumed >= 0]
    waited = [request.num_ticks_waited for request in arrived]
    num_ticks = sum(log.num_ticks for log in logs)
    ratios = np.concatenate([metrics.seam_ratios(log) for log in logs])
    ages = np.concatenate([metrics.observation_age_ticks(log) for log in logs])
    low, high = _throughput_interval(episodes, control_hz)
    return {
        "task": episodes[0].task,
        "cell": cell.name,
        "mode": cell.mode,
        "delay": cell.delay,
        "delay_label": cell.delay_label,
        **success_summary(episode_rows(cell, episodes), control_hz),
        "throughput_low": low,
        "throughput_high": high,
        "idle_share": metrics.idle_share(logs),
        "idle_share_cycles": metrics.cycle_idle_share(logs),
        "idle_share_expected": _expected_idle_share(cell, waited),
        "startup_ticks_mean": float(np.mean([metrics.startup_ticks(log) for log in logs])),
        "underruns_per_1000_ticks": 1000.0 * sum(e.metrics["underruns"] or 0.0 for e in episodes) / max(1, num_ticks),
        "num_requests": len(requests),
        "late_share": _share(sum(request.outcome == "late" for request in requests), len(arrived)),
        "num_rejected": sum(request.outcome == "rejected" for request in requests),
        "num_delay_clamped": int(sum(episode.metrics["num_delay_clamped"] or 0.0 for episode in episodes)),
        "num_untrained": int(sum(episode.metrics["num_untrained"] or 0.0 for episode in episodes)),
        "delay_ticks": quantiles(waited, ("mean", "p50", "p95", "max")),
        "seam_ratio": quantiles(ratios)
        | {"share_above_3": _share(int((ratios > metrics.SEAM_LIMIT).sum()), ratios.size)},
        "jerk_rms_m_s3": _mean([metrics.jerk_rms(log) for log in logs]),
        "observation_age_ticks": quantiles(ages, ("mean", "p95", "max")),
        "plan_disagreement_m": _mean([episode.metrics["plan_disagreement_m"] for episode in episodes]),
        "period_error_ms": quantiles(
            _joined(metrics.period_errors_ms, logs) if on_wall_clock else [], ("p50", "p99", "p99.9", "max")
        ),
        "phase_error_ms": quantiles(
            _joined(metrics.phase_errors_ms, logs) if on_wall_clock else [], ("p50", "p99", "max")
        ),
    }


def _expected_idle_share(cell: Cell, waited: Sequence[int]) -> float | None:
    """r / (s + r) for a synchronous robot with the mean r that was measured; 0 for the asynchronous modes."""
    if not waited:
        return None
    mean = float(np.mean(waited))
    return mean / (cell.execute_horizon + mean) if cell.mode == "sync" else 0.0


def _throughput_interval(episodes: Sequence[Episode], control_hz: float) -> tuple[float, float]:
    """Bootstrap over episodes of sum(solved) / sum(minutes)."""
    solved = np.array([episode.status.is_success for episode in episodes], dtype=np.float64)
    minutes = np.array([episode.log.num_ticks for episode in episodes]) / control_hz / 60.0

    def throughput(indices: np.ndarray) -> float:
        chosen = indices.astype(np.int64)
        return float(solved[chosen].sum() / max(minutes[chosen].sum(), 1e-9))

    return bootstrap_interval(np.arange(len(episodes)), throughput)


def _joined(measure: Any, logs: Sequence[metrics.CommandLog]) -> np.ndarray:
    return np.concatenate([measure(log) for log in logs])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
