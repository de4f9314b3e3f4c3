"""Draw `curves.jsonl`: one panel per stage and quantity."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_NOT_DRAWN = ("stage", "train_step", "learning_rate", "prefix_length", "gradient_norm")
_WINS = "share of wins"


def plot_curves(curves: Path, picture: Path) -> None:
    """Read a JSONL of training curves and write a PNG: one row per stage, one panel per loss.

    Raises:
        ValueError: the file holds no rows.
    """
    stages: dict[str, list[dict[str, float]]] = defaultdict(list)
    for line in curves.read_text().splitlines():
        row = json.loads(line)
        stages[row["stage"]].append(row)
    if not stages:
        raise ValueError(f"{curves} holds no rows")
    names = {stage: _panels(rows[0]) for stage, rows in stages.items()}
    width = max(len(keys) for keys in names.values())
    figure, panels = plt.subplots(len(stages), width, figsize=(3.2 * width, 2.4 * len(stages)), squeeze=False)
    for line_of_panels, (stage, rows) in zip(panels, stages.items(), strict=True):
        for panel in line_of_panels[len(names[stage]) :]:
            panel.axis("off")
        for panel, (title, keys) in zip(line_of_panels, names[stage].items(), strict=False):
            for key in keys:
                panel.plot([row["train_step"] for row in rows], [row[key] for row in rows], linewidth=1.2)
            panel.set_title(f"{stage}: {title}", fontsize=9)
            if all(row[key] > 0 for row in rows for key in keys) and title != _WINS:
                panel.set_yscale("log")
            panel.tick_params(which="both", labelsize=7)
            panel.grid(alpha=0.3)
    figure.supxlabel("train step", fontsize=9)
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    plt.close(figure)


def _panels(row: Mapping[str, object]) -> dict[str, list[str]]:
    """Title -> what is drawn there: every loss by itself, the candidates' shares of wins together."""
    losses = [key for key in row if key not in _NOT_DRAWN and not key.startswith("win_")]
    wins = [key for key in row if key.startswith("win_")]
    return {key: [key] for key in losses} | ({_WINS: wins} if wins else {})
