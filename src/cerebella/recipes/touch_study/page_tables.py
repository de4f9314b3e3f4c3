"""Tables about the study itself: what is drawn from which ranges, trainings, cost, what is missing."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cerebella.recipes.study_cells import Cell
from cerebella.recipes.touch_study.policies import entrant
from cerebella.recipes.touch_study.tables import NOTHING, table


def ranges_table(cells: Sequence[Cell]) -> str:
    """Ranges per world, from the settings of cells of different worlds."""
    protocols = {cell["settings"]["protocol"]["world"]: cell["settings"]["protocol"] for cell in cells}
    lines: dict[str, dict[str, str]] = {}
    for world, protocol in protocols.items():
        for group, title in (("ranges", "pose"), ("hand", "hand"), ("sensor", "sensor")):
            for name, limits in protocol[group].items():
                lines.setdefault(f"{title}: {_label(name)}", {})[world] = _limits(name, limits)
        for name, value in protocol["joint_errors"].items():
            lines.setdefault(f"joints: {_label(name)}, standard deviation", {})[world] = _number(name, value)
    worlds = list(protocols)
    return table(
        ["what", *worlds], [[name, *(row.get(world, NOTHING) for world in worlds)] for name, row in lines.items()]
    )


def training_table(cells: Sequence[Cell]) -> str:
    """One line per refiner."""
    lines = []
    for cell in cells:
        row, numbers = cell["rows"][0], cell["rows"][0]["calibration"]
        errors = [_held_out(numbers, f"held_out_{name}") for name in ("start", "error", "p90")]
        lines.append(
            [
                f"`{cell['name']['policy']}`",
                entrant(cell["name"]["policy"]).title,
                f"{row['num_parameters'] / 1e6:.2f} M",
                f"{row['num_steps']} x {row['batch_size']}",
                str(row["num_grasps"]),
                *errors,
                f"{row['training_cpu_s'] / 60:.1f}",
            ]
        )
    names = ["refiner", "what it is", "parameters", "steps x pairs", "grasps", "before, mm / deg", "mean", "90 % below"]
    return table([*names, "CPU min"], lines)


def budget_table(cells: Sequence[Cell]) -> str:
    """CPU time per kind of cell."""
    totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for cell in cells:
        for place, value in enumerate((1, len(cell["rows"]), cell["cpu_s"])):
            totals[cell["kind"]][place] += value
    lines = [[kind, f"{num:.0f}", f"{rows:.0f}", f"{cpu_s / 60:.1f}"] for kind, (num, rows, cpu_s) in totals.items()]
    made_by = sorted({f"{cell['run']['processor']}, commit {str(cell['run']['commit'])[:10]}" for cell in cells})
    told = "One thread each, on " + "; ".join(made_by) + ". A training that was killed counts from its last start.\n"
    return table(["kind", "cells", "rows", "CPU min"], lines) + "\n" + told


def missing_table(planned: Mapping[str, int], there: Mapping[str, int]) -> str:
    """Cells with fewer rows than planned."""
    lines = [
        [f"`{name}`", str(num), str(there.get(name, 0))] for name, num in planned.items() if there.get(name, 0) < num
    ]
    if not lines:
        return "All that was planned has been run.\n"
    return "Not, or not wholly, run:\n\n" + table(["cell", "planned", "there"], lines)


def _held_out(numbers: Mapping[str, float], name: str) -> str:
    values = [numbers.get(f"{name}_{unit}") for unit in ("mm", "deg")]
    known = [value for value in values if value is not None]
    return " / ".join(f"{value:.2f}" for value in known) if len(known) == 2 else NOTHING


def _label(name: str) -> str:
    for ending, unit in (("_n_per_m", "N/m"), ("_rad", "deg"), ("_m", "mm"), ("_n", "mN")):
        if name.endswith(ending):
            return f"{name.removesuffix(ending).replace('_', ' ')}, {unit}"
    return name.replace("_", " ")


def _limits(name: str, limits: Any) -> str:
    low, high = (_number(name, value) for value in limits)
    return low if low == high else f"{low} .. {high}"


def _number(name: str, value: float) -> str:
    if name.endswith("_n_per_m"):
        return f"{value:g}"
    scale = math.degrees(1.0) if name.endswith("_rad") else 1e3 if name.endswith(("_m", "_n")) else 1.0
    return f"{scale * value:.4g}"
