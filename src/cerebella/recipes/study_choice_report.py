"""What a person looks at after the study of Choice Policies: two pictures and two tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from cerebella.envs.dynamic.two_ways import TwoWaysConfig
from cerebella.evaluation.plots import figure_to_png
from cerebella.recipes.study_choice_cells import COMPARED, METHODS

COLOURS = {"choice": "#0f766e", "single": "#d9822b"}
NAMES = {"choice": "Choice Policies, picked by score", "single": "single L1 regression"}
TITLES = {
    "demonstrated_error_m": ("Error to the demonstration", "mm", 1e3),
    "nearest_mode_error_m": ("Error to the nearer way", "mm", 1e3),
    "best_of_n_error_m": ("Best of N to the demonstration", "mm", 1e3),
    "hit_share": ("Picked chunks that hit", "%", 1e2),
}
LAW_NAMES: dict[str, str] = {
    "even": "even: a coin decides",
    "mostly_left": "mostly_left: 70 % left",
    "shorter": "shorter way",
}
_INK, _GREY = "#1c2026", "#9aa3ad"
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b8bec6",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def plot_examples(cells: Sequence[Mapping[str, Any]], num_scenes: int = 2) -> bytes:
    """PNG: one row per law, held-out scenes side by side for both methods; every candidate thin, the picked one thick."""
    laws = list(dict.fromkeys(cell["law"] for cell in cells))
    by_name = {(cell["law"], cell["method"]): cell["examples"] for cell in cells}
    num_columns = len(METHODS) * num_scenes
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(2.9 * num_columns, 1.5 * len(laws) + 0.6), layout="constrained")
        panels = figure.subplots(len(laws), num_columns, squeeze=False)
        for row, law in enumerate(laws):
            for column in range(num_columns):
                scene, method = divmod(column, len(METHODS))
                panel: Axes = panels[row, column]
                shown = by_name.get((law, METHODS[method]), [])
                if scene < len(shown):
                    _draw_scene(panel, shown[scene], COLOURS[METHODS[method]])
                panel.set_axis_off()
                if column == 0:
                    panel.set_title(LAW_NAMES[law])
        handles = [Line2D([], [], color=_INK, linestyle=(0, (1, 1.5)), label="demonstration")]
        handles += [Line2D([], [], color=COLOURS[m], linewidth=2.4, label=NAMES[m]) for m in METHODS]
        handles.append(Line2D([], [], color=_GREY, linewidth=1, label="other candidates"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return figure_to_png(figure)


def plot_measures(summary: Mapping[str, Any]) -> bytes:
    """PNG. Above: mean over the seeds, the seeds as dots, a line from the smallest to the largest. Below: choice - single
    on the same windows, one point per seed with its 95 % interval.
    """
    laws = list(dict.fromkeys(row["law"] for row in summary["rows"]))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.0 * len(COMPARED), 5.4), layout="constrained")
        panels = figure.subplots(2, len(COMPARED))
        for column, name in enumerate(COMPARED):
            _draw_bars(panels[0, column], summary["rows"], laws, name)
            _draw_differences(panels[1, column], summary["comparisons"], laws, name)
        handles = [Line2D([], [], color=COLOURS[m], linewidth=7, label=NAMES[m]) for m in METHODS]
        handles.append(Line2D([], [], color=_INK, linestyle="--", label="the likelier way itself"))
        handles.append(
            Line2D(
                [],
                [],
                color=_INK,
                marker="o",
                markersize=4,
                label="a seed, 95 % over windows; below 0 choice is better",
            )
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return figure_to_png(figure)


def table(summary: Mapping[str, Any]) -> str:
    """Markdown: measures, then paired differences; mean over the seeds (min .. max)."""
    lines = [
        "| law | method | error to demonstration, mm | to nearer way, mm | best of N, mm | hits, % | error, model units |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary["rows"]:
        parts = [_range(row[name], TITLES[name][2]) for name in COMPARED]
        lines.append(
            f"| {row['law']} | {row['method']} | {' | '.join(parts)} | {_range(row['demonstrated_error'], 1, 3)} |"
        )
    lines += ["", "| law | measure | choice - single | 95 % interval, per seed |", "|---|---|---|---|"]
    for row in summary["comparisons"]:
        title, unit, scale = TITLES[row["measure"]]
        seeds = "; ".join(f"{scale * seed['low']:.2f} .. {scale * seed['high']:.2f}" for seed in row["seeds"])
        lines.append(f"| {row['law']} | {title}, {unit} | {_range(row, scale)} | {seeds} |")
    lines += ["", "| law | seed | wins per candidate, % | picked, % |", "|---|---|---|---|"]
    for row in (row for row in summary["rows"] if row["method"] == "choice"):
        for seed, wins, picked in zip(row["seeds"], row["win_shares"], row["picked_shares"], strict=True):
            lines.append(f"| {row['law']} | {seed} | {_shares(wins)} | {_shares(picked)} |")
    return "\n".join(lines) + "\n"


def _draw_scene(panel: Axes, example: Mapping[str, Any], colour: str) -> None:
    task = TwoWaysConfig()
    start, goal, obstacle = (np.array(example[name]) for name in ("start", "goal", "obstacle"))
    panel.add_patch(Circle(tuple(obstacle), task.contact_m, color="#f3d9d0", linewidth=0))
    panel.add_patch(Circle(tuple(obstacle), task.obstacle_radius_m, color="#c2513a", linewidth=0))
    for index, rows in enumerate(example["candidates"]):
        path = np.concatenate([start[None], np.array(rows)])
        is_picked = index == example["picked"]
        style = {"color": colour, "linewidth": 2.4, "zorder": 4} if is_picked else {"color": _GREY, "linewidth": 1}
        panel.plot(path[:, 0], path[:, 1], **style)
    shown = np.concatenate([start[None], np.array(example["demonstrated"])])
    panel.plot(shown[:, 0], shown[:, 1], color=_INK, linestyle=(0, (1, 1.5)), linewidth=1.4, zorder=5)
    panel.plot(*start, "o", color=_INK, markersize=5, zorder=6)
    panel.plot(*goal, "*", color=_INK, markersize=9, zorder=6)
    panel.set(xlim=(0, task.length_m), ylim=(0.06, task.width_m - 0.06), aspect="equal")


def _draw_bars(panel: Axes, rows: Sequence[Mapping[str, Any]], laws: Sequence[str], name: str) -> None:
    title, unit, scale = TITLES[name]
    for row in rows:
        place = laws.index(row["law"]) + (METHODS.index(row["method"]) - 0.5) * 0.36
        spread, colour = row[name], COLOURS[row["method"]]
        panel.bar(place, scale * spread["mean"], width=0.32, color=colour, alpha=0.8)
        top = (place, scale * spread["max"])
        panel.annotate(
            f"{scale * spread['mean']:.1f}", top, (0, 4), textcoords="offset points", ha="center", fontsize=7.5
        )
        panel.plot([place, place], [scale * spread["min"], scale * spread["max"]], color=_INK, linewidth=1.1)
        panel.plot([place] * len(spread["values"]), scale * np.array(spread["values"]), "o", color=_INK, markersize=2.6)
        if name == "demonstrated_error_m":
            floor = scale * row["likelier_way_error_m"]["mean"]
            panel.plot([place - 0.18, place + 0.18], [floor, floor], color=_INK, linestyle="--", linewidth=1)
    panel.set(title=title, ylabel=unit)
    panel.set_xticks(range(len(laws)), labels=list(laws))
    panel.margins(y=0.12)
    panel.set_ylim(bottom=0)


def _draw_differences(panel: Axes, rows: Sequence[Mapping[str, Any]], laws: Sequence[str], name: str) -> None:
    _, unit, scale = TITLES[name]
    panel.axhline(0, color=_GREY, linewidth=1)
    for row in (row for row in rows if row["measure"] == name):
        num = len(row["seeds"])
        for index, seed in enumerate(row["seeds"]):
            place = laws.index(row["law"]) + (index - (num - 1) / 2) * 0.18
            middle, low, high = (scale * seed[key] for key in ("difference", "low", "high"))
            panel.plot([place, place], [low, high], color=_INK, linewidth=1.3)
            panel.plot(place, middle, "o", color=_INK, markersize=4)
    panel.set(title="choice - single", ylabel=unit)
    panel.set_xticks(range(len(laws)), labels=list(laws))
    panel.set_xlim(-0.5, len(laws) - 0.5)


def _range(spread: Mapping[str, Any], scale: float, digits: int = 2) -> str:
    mean, low, high = (scale * spread[key] for key in ("mean", "min", "max"))
    return f"{mean:.{digits}f} ({low:.{digits}f} .. {high:.{digits}f})"


def _shares(shares: Sequence[float]) -> str:
    return " ".join(f"{100 * share:.0f}" for share in shares)
