"""Cells with numbers that nobody has measured, in the shape of real ones: for what is computed from them."""

from typing import Any

import numpy as np

from cerebella.recipes.study_async.measures import SEAM_EDGES
from cerebella.recipes.workcell_study.cells import Name, RetentionName, RolloutName, StreamName, make_cell

RUN = {"commit": "0" * 40, "dirty": False, "started_utc": "2026-01-01T00:00:00Z", "processor": "one", "versions": {}}


def rollout(training: str, mode: str, delay: int, success: str, first: int = 0, **more: Any) -> dict[str, Any]:
    """Episodes of 600 ticks, three parts in a solved one and one in another."""
    num = len(success)
    counts = np.zeros(len(SEAM_EDGES) - 1, dtype=int)
    counts[15] = 10
    numbers = {
        "success": success,
        "ticks": [600] * num,
        "reasons": ["missed", "sorted"],
        "reason_codes": "".join("ab"[digit == "1"] for digit in success),
        "idle_share": 0.25 if mode == "sync" else 0.0,
        "seam_counts": counts.tolist(),
        "jerk_m_s3": 40.0,
        "age_ticks": 4.0,
        "requests": {"asked": 100, "late": 0, "rejected": 0, "cut": 0, "untrained": 0},
        "parts": [3 if digit == "1" else 1 for digit in success],
    }
    settings = {"weights": training, "first_seed": 1_000_000 + first, "num_episodes": num, **more}
    return cell(RolloutName(training, mode, delay, first), settings, numbers)


def retention(training: str, stage: str, right: str) -> dict[str, Any]:
    """Two families with the same answers."""
    families = {family: {"right": right, "blind": 0.3} for family in ("count", "present")}
    return cell(RetentionName(training, stage), {"weights": stage}, {"families": families})


def stream(training: str, per_row: int) -> dict[str, Any]:
    """Thirty minutes with as many parts in each."""
    rows = [
        {"s": 60.0 * (k + 1), "picked": per_row * (k + 1.0), "missed": 0.0, "wrong": 0.0, "rss_mb": 500.0}
        for k in range(30)
    ]
    return cell(StreamName(training, 3), {}, {"rows": rows, "is_whole": True})


def cell(name: Name, settings: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    """As a run would have written it, after a minute."""
    return make_cell(name, settings, RUN, 60.0, numbers)
