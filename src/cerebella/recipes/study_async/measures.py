"""Numbers of one rollout cell from its episodes. Small and rounded: thousands of cells go into one file.

success                 "0110...", a digit per episode, in the order of the episode seeds
ticks                   of every episode, held ones included
reasons, reason_codes   how episodes ended: names, and a letter per episode (a is the first name)
throughput_per_min      solved episodes per minute of robot time
idle_share              held ticks / ticks, after the first plan of each episode
seam_counts             hand-overs per bin of `SEAM_EDGES`: step at a hand-over / usual step (`metrics.seam_ratios`)
seam_p50, seam_p95, num_seams
jerk_m_s3               mean over episodes of the RMS jerk of the commands
age_ticks               mean age of the observation behind a command
requests                counts: asked, late, rejected, promises cut to what fits, promises beyond the training
reaction_ticks          only with a perturbation: per episode the ticks from the event until the commands leave those of
                        the undisturbed twin, or one of the codes below
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cerebella.evaluation import metrics
from cerebella.evaluation.rollout import Episode

SEAM_EDGES = np.round(np.geomspace(0.05, 50.0, 31), 4)
"""Edges of 30 bins; smaller and larger ratios count in the outer ones."""
NO_EVENT, UNEQUAL, UNMOVED = -1, -2, -3
"""Instead of a reaction time: one of the twins ended before the event; they parted before it (rounding, in another batch);
they never parted."""


def measure(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Everything but the reaction times.

    Raises:
        ValueError: no episodes.
    """
    if not episodes:
        raise ValueError("there is no episode to measure")
    logs = [episode.log for episode in episodes]
    num_ticks = [log.num_ticks for log in logs]
    successes = [episode.status.is_success for episode in episodes]
    reasons = sorted({episode.status.reason for episode in episodes})
    ratios = np.concatenate([metrics.seam_ratios(log) for log in logs])
    ages = np.concatenate([metrics.observation_age_ticks(log) for log in logs])
    jerks = [jerk for jerk in map(metrics.jerk_rms, logs) if jerk is not None]
    return {
        "success": "".join("01"[success] for success in successes),
        "ticks": num_ticks,
        "reasons": reasons,
        "reason_codes": "".join(chr(ord("a") + reasons.index(episode.status.reason)) for episode in episodes),
        "throughput_per_min": _short(sum(successes) / (sum(num_ticks) / logs[0].control_hz / 60.0)),
        "idle_share": _short(metrics.idle_share(logs)),
        "seam_counts": np.histogram(np.clip(ratios, SEAM_EDGES[0], SEAM_EDGES[-1]), SEAM_EDGES)[0].tolist(),
        "seam_p50": _percentile(ratios, 50),
        "seam_p95": _percentile(ratios, 95),
        "num_seams": int(ratios.size),
        "jerk_m_s3": _short(float(np.mean(jerks))) if jerks else None,
        "age_ticks": _short(float(ages.mean())) if ages.size else None,
        "requests": {
            "asked": sum(len(episode.requests) for episode in episodes),
            "late": _total(episodes, "late"),
            "rejected": _total(episodes, "rejected"),
            "cut": _total(episodes, "num_delay_clamped"),
            "untrained": _total(episodes, "num_untrained"),
        },
    }


def reactions(disturbed: Sequence[Episode], twins: Sequence[Episode]) -> list[int]:
    """Reaction time of every pair of the same seed, ticks, or a negative code."""
    return [_reaction(episode, twin) for episode, twin in zip(disturbed, twins, strict=True)]


def _reaction(episode: Episode, twin: Episode) -> int:
    event = int(episode.status.metrics["perturbation_tick"])
    if not 0 <= event < min(episode.log.num_ticks, twin.log.num_ticks):
        return NO_EVENT
    parted = metrics.parting_tick(episode.log, twin.log)
    if parted is None:
        return UNMOVED
    return parted - event if parted >= event else UNEQUAL


def _total(episodes: Sequence[Episode], name: str) -> int:
    return int(sum(episode.metrics[name] or 0.0 for episode in episodes))


def _percentile(values: np.ndarray, percent: float) -> float | None:
    return _short(float(np.percentile(values, percent))) if values.size else None


def _short(value: float | None) -> float | None:
    """Four digits are enough."""
    return None if value is None else float(f"{value:.4g}")
