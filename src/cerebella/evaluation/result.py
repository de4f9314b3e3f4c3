"""The result file: one JSON document per evaluation, the same fields for every suite, clock and policy.

    schema_version, suite, policy, run, conditions, episodes, summary, timing

`result.schema.json` beside this file is the exact description. An evaluation has one or more *cells* (a mode at a delay);
every episode row and every summary row names its cell, so a single run and a study share one format.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cerebella.embodiment import read_json_object
from cerebella.evaluation.statistics import wilson_interval

SCHEMA_VERSION = "1.0"
SCHEMA_PATH = Path(__file__).with_name("result.schema.json")

_TOP_LEVEL = ("schema_version", "suite", "policy", "run", "conditions", "episodes", "summary", "timing")
_EPISODE = ("id", "cell", "seed", "task", "prompt", "success", "ticks", "reason", "metrics")


def episode_row(
    *,
    cell: str,
    seed: int,
    task: str,
    prompt: str,
    is_success: bool,
    num_ticks: int,
    reason: str,
    metrics: Mapping[str, float | None],
) -> dict[str, Any]:
    """One row of `episodes`. `num_ticks` counts all ticks of the episode, held ones included."""
    return {
        "id": f"{cell}/{task}/{seed}",
        "cell": cell,
        "seed": int(seed),
        "task": task,
        "prompt": prompt,
        "success": bool(is_success),
        "ticks": int(num_ticks),
        "reason": reason,
        "metrics": dict(metrics),
    }


def success_summary(episodes: Sequence[Mapping[str, Any]], control_hz: float) -> dict[str, Any]:
    """Successes, rate with its Wilson 95 % interval, and throughput of some episode rows.

    throughput = solved episodes / minutes of robot time; robot time is every tick of every episode, waiting included;
    resets between episodes are not.
    """
    num_successes = sum(bool(row["success"]) for row in episodes)
    num_ticks = sum(int(row["ticks"]) for row in episodes)
    low, high = wilson_interval(num_successes, len(episodes))
    minutes = num_ticks / control_hz / 60.0
    return {
        "successes": num_successes,
        "episodes": len(episodes),
        "rate": num_successes / len(episodes) if episodes else None,
        "low": low,
        "high": high,
        "throughput_per_min": num_successes / minutes if minutes > 0 else None,
    }


def make_result(
    *,
    suite: str,
    policy: Mapping[str, Any],
    run: Mapping[str, Any],
    conditions: Mapping[str, Any],
    episodes: Sequence[Mapping[str, Any]],
    summary: Sequence[Mapping[str, Any]],
    timing: Mapping[str, Any],
) -> dict[str, Any]:
    """Assemble and check a result."""
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "suite": suite,
        "policy": dict(policy),
        "run": dict(run),
        "conditions": dict(conditions),
        "episodes": [dict(row) for row in episodes],
        "summary": [dict(row) for row in summary],
        "timing": dict(timing),
    }
    validate_result(result)
    return result


def validate_result(result: Mapping[str, Any]) -> None:
    """Structural check that needs no extra package: fields present, rows complete, counts and intervals consistent.

    Raises:
        ValueError: naming the first field that is missing or inconsistent.
    """
    for name in _TOP_LEVEL:
        if name not in result:
            raise ValueError(f"result: the field {name!r} is missing; a result has {', '.join(_TOP_LEVEL)}")
    if result["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"result: schema_version {result['schema_version']!r}; this version reads {SCHEMA_VERSION!r}")
    cells = [cell["name"] for cell in result["conditions"]["cells"]]
    for i, row in enumerate(result["episodes"]):
        missing = [name for name in _EPISODE if name not in row]
        if missing:
            raise ValueError(f"result: episodes[{i}] lacks {', '.join(missing)}")
        if row["cell"] not in cells:
            raise ValueError(f"result: episodes[{i}] names the cell {row['cell']!r}; conditions has {', '.join(cells)}")
    for i, row in enumerate(result["summary"]):
        rows = [e for e in result["episodes"] if e["cell"] == row["cell"] and e["task"] == row["task"]]
        num_successes = sum(e["success"] for e in rows)
        if (row["episodes"], row["successes"]) != (len(rows), num_successes):
            raise ValueError(
                f"result: summary[{i}] says {row['successes']} of {row['episodes']} for {row['cell']}/{row['task']}; "
                f"its episodes say {num_successes} of {len(rows)}"
            )
        if row["rate"] is not None and not row["low"] <= row["rate"] <= row["high"]:
            raise ValueError(f"result: summary[{i}] has the rate {row['rate']} outside {row['low']}..{row['high']}")


def write_result(path: Path, result: Mapping[str, Any]) -> Path:
    """Check and write; makes the folder. NaN and infinity are refused: they are not JSON."""
    validate_result(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return path


def check_can_write(path: Path) -> None:
    """Find out before a long run, not after it; makes the folder, leaves no file.

    Raises:
        ValueError: the file cannot be written, and why.
    """
    blocking = next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None)
    if blocking is not None:
        raise ValueError(f"cannot write {path}: {blocking} is a file, not a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror} ({error.filename})") from error


def read_result(path: Path) -> dict[str, Any]:
    """Read and check what `write_result` wrote.

    Raises:
        ValueError: not JSON, or not a result; names the file.
    """
    result = read_json_object(path)
    try:
        validate_result(result)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return result
