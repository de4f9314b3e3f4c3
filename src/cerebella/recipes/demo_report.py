"""The demo's report: which numbers, what they mean, which pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cerebella.evaluation import metrics, plots
from cerebella.evaluation.plots import figure_to_png
from cerebella.evaluation.report import Column, Definition, FigureBlock, write_report
from cerebella.evaluation.rollout import Episode

COLUMNS = (
    Column("solved", "throughput_per_min", 1, unit="per minute"),
    Column("idle", "idle_share", 0, 100.0, "% of ticks"),
    Column("jump", "seam_ratio/p95", 1, unit="p95, x usual"),
    Column("reaction", "reaction_ms/p50", 0, unit="p50, ms"),
    Column("reaction", "reaction_ms/p95", 0, unit="p95, ms"),
    Column("jitter", "period_error_ms/p50", 2, unit="p50, ms"),
    Column("jitter", "period_error_ms/p99", 2, unit="p99, ms"),
    Column("jitter", "period_error_ms/max", 2, unit="max, ms"),
    Column("late", "late_share", 0, 100.0, "% of replies"),
)

DEFINITIONS = (
    Definition(
        "delay", "From the picture to the moment its actions may be used: the model's own time, padded to a target."
    ),
    Definition(
        "mode",
        "sync waits for each plan. naive keeps moving on the old plan meanwhile and jumps to the new one. prefix also "
        "keeps moving, and tells the model which actions are already promised, so that the new plan continues them.",
    ),
    Definition("success", "Share of episodes in which the named part was picked, with its Wilson 95 % interval."),
    Definition(
        "solved",
        "Picked parts per minute of robot time, waiting included, resets excluded.",
        "solved / (ticks / Hz / 60)",
    ),
    Definition(
        "idle",
        "Ticks on which the robot had no plan to follow, from its first planned command on. A synchronous robot idles "
        "r of every s + r ticks.",
        "held ticks / ticks",
    ),
    Definition(
        "jump",
        "Largest step of the commanded position at a hand-over, or where the new plan first decides by itself, against the "
        "usual step. 1 is seamless, above 3 is visible.",
        "|c(n) - c(n-1)| / median elsewhere",
    ),
    Definition(
        "reaction",
        "After a sudden change of the belt or a bump of the part: time until the command leaves the path of an "
        "undisturbed twin run by more than 2 mm (virtual clock, same seeds).",
        "min{n : |c(n) - twin(n)| > 2 mm} - event",
    ),
    Definition("jitter", "How far the spacing of two commands is from the control period.", "|t(n) - t(n-1) - 1/Hz|"),
    Definition("late", "Replies that came after the last promised action."),
)


def write_demo_report(
    path: Path,
    result: Mapping[str, Any],
    episodes: Mapping[str, Sequence[Episode]],
    reactions: Mapping[str, Mapping[str, Any]],
    video: Path,
    shown_latency_ms: float,
) -> Path:
    """Write the report.

    Args:
        episodes: by cell name; reactions: what the twin runs found, by cell name.
        shown_latency_ms: the latency of the video and of the trace picture.
    """
    summary: list[dict[str, Any]] = result["summary"]
    hz = result["conditions"]["rates"]["control_hz"]
    return write_report(
        path,
        result,
        title="A small VLA picks parts from a moving belt, in real time",
        lead=(
            f"Each inference takes a tenth of a second; the robot needs a command every {1e3 / hz:.0f} ms. Three ways to "
            "bridge the gap, on the same scenes, from pixels and an instruction."
        ),
        columns=COLUMNS,
        definitions=DEFINITIONS,
        figures=_figures(summary, episodes, reactions, hz, shown_latency_ms),
        video=video,
        video_caption=(
            f"Same scenes, same policy, {shown_latency_ms:g} ms latency; each panel goes on to its next scene when it is "
            "done. Rendered after the run from what really happened."
        ),
    )


def _figures(
    summary: Sequence[Mapping[str, Any]],
    episodes: Mapping[str, Sequence[Episode]],
    reactions: Mapping[str, Mapping[str, Any]],
    hz: float,
    shown_latency_ms: float,
) -> list[FigureBlock]:
    shown = [row for row in summary if row["delay"] == shown_latency_ms]
    modes = list(dict.fromkeys(row["mode"] for row in summary))
    example = _example({row["mode"]: episodes[row["cell"]] for row in shown})
    seam = {mode: _pool(metrics.seam_ratios, summary, episodes, mode) for mode in modes}
    period = {mode: _pool(metrics.period_errors_ms, summary, episodes, mode) for mode in modes}
    reaction = {row["mode"]: np.array(reactions[row["cell"]]["ticks"]) * 1e3 / hz for row in shown}
    return [
        FigureBlock(
            "Success and throughput against latency. Few episodes: read the intervals, not the points.",
            figure_to_png(plots.plot_delay_curves(summary, "latency, ms")),
            is_wide=True,
        ),
        FigureBlock(
            "Commands of one scene. Dots: a new plan takes over. Shaded: the robot waits for one.",
            figure_to_png(plots.plot_traces(example, ("along the belt", "across"))),
            is_wide=True,
        ),
        FigureBlock("How hard the hand-overs are, all latencies together.", figure_to_png(plots.plot_seams(seam))),
        FigureBlock(
            f"How soon a disturbance shows in the command, at {shown_latency_ms:g} ms.",
            figure_to_png(plots.plot_reactions(reaction)),
        ),
        FigureBlock(
            "How steady the control loop was while the model was computing on the same machine.",
            figure_to_png(plots.plot_periods(period, 1e3 / hz)),
        ),
    ]


def _example(episodes: Mapping[str, Sequence[Episode]]) -> dict[str, metrics.CommandLog]:
    """The scene that all modes met and that took longest: it has the most hand-overs to look at."""
    by_seed = [{episode.seed: episode.log for episode in rows} for rows in episodes.values()]
    common = set.intersection(*(set(logs) for logs in by_seed))
    longest = max(sorted(common), key=lambda seed: min(logs[seed].num_ticks for logs in by_seed))
    return {mode: logs[longest] for mode, logs in zip(episodes, by_seed, strict=True)}


def _pool(
    measure: Any, summary: Sequence[Mapping[str, Any]], episodes: Mapping[str, Sequence[Episode]], mode: str
) -> np.ndarray:
    """A per-episode measure over all cells of a mode."""
    cells = [row["cell"] for row in summary if row["mode"] == mode]
    return np.concatenate([measure(episode.log) for cell in cells for episode in episodes[cell]])
