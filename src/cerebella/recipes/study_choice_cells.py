"""Numbers of the study of Choice Policies: what is measured, how a cell looks on the disk, how cells become a summary.

A cell is one file, `<law>-<method>-<seed>.json`:

    schema_version, study, law, method, seed    which cell
    settings, fingerprint                       what decides its numbers, and twelve hex digits of it
    run                                         commit, command, versions, machine (`evaluation.fingerprint`)
    collapse                                    what to know about the shares of wins, or null
    measures                                    numbers over all held-out windows, see `measure`
    windows                                     the same per window, for paired comparisons
    examples                                    candidates of the first windows, metres

Errors are means of |difference| over the rows and both coordinates of a chunk, so half of what a person would call the
distance. `_m` is in metres; without a unit they are in spreads of the training statistics, as the loss is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.two_ways import LEFT, RIGHT, Scenes, expert_chunks, hits_obstacle
from cerebella.envs.dynamic.two_ways_data import LEFT_SHARE, ModeLaw, TwoWaysWindows
from cerebella.evaluation.statistics import bootstrap_interval, compare_paired
from cerebella.recipes.study_cells import CellFormat, differences, fingerprint
from cerebella.types import FloatArray

Method = Literal["choice", "single"]
METHODS: tuple[Method, ...] = get_args(Method)
ERRORS = ("demonstrated_error", "nearest_mode_error", "best_of_n_error")
COMPARED = ("demonstrated_error_m", "nearest_mode_error_m", "best_of_n_error_m", "hit_share")
"""Measures with a paired comparison: bootstrap over windows, and McNemar's exact test for the hits."""
MEASURES = (*(f"{name}_m" for name in ERRORS), *ERRORS, "hit_share", "likelier_way_error_m")
FORMAT = CellFormat(
    constants={"schema_version": "1.0", "study": "choice"},
    fields=(
        *("law", "method", "seed", "settings", "fingerprint", "run", "collapse"),
        *("measures", "windows", "examples"),
    ),
)


@dataclass(frozen=True)
class CellName:
    """Which cell of the study."""

    law: ModeLaw
    method: Method
    seed: int

    def __str__(self) -> str:
        return f"{self.law}-{self.method}-{self.seed}"


@dataclass(frozen=True, eq=False)
class Proposals:
    """What a trained network proposed for W windows.

    Args:
        actions_m: float32[W, N, H, 2], absolute targets in metres. actions: the same in model units.
        picked: int64[W], the candidate with the lowest predicted error.
        modes: float32[W, 2, H, 2], the expert's chunk on either side in model units.
    """

    actions_m: FloatArray
    actions: FloatArray
    picked: NDArray[np.int64]
    modes: FloatArray


def both_ways(scenes: Scenes, horizon: int) -> FloatArray:
    """The expert's chunk on the left and on the right, absolute, float32[W, 2, H, 2]."""
    sides = [np.full(len(scenes), side, dtype=np.int8) for side in (LEFT, RIGHT)]
    return np.stack([expert_chunks(scenes, side, horizon) for side in sides], axis=1)


def measure(windows: TwoWaysWindows, law: ModeLaw, proposals: Proposals) -> tuple[dict[str, Any], dict[str, Any]]:
    """(measures, the same per window).

    demonstrated_error      of the picked candidate to what the expert did
    nearest_mode_error      of the picked candidate to the nearer of the expert's two ways
    best_of_n_error         of the candidate that is nearest to what the expert did (an oracle picks)
    hit_share               picked chunks that touch the obstacle
    likelier_way_error_m    of the likelier way itself: no policy can expect less than this `demonstrated_error_m`
    win_shares, picked_shares   per candidate: how often it was nearest to the expert, how often it was picked
    """
    everyone = np.arange(len(windows))
    picked = proposals.picked
    modes_m = both_ways(windows.scenes, windows.actions.shape[1])
    per_window: dict[str, NDArray[Any]] = {}
    for unit, candidates, modes in (("_m", proposals.actions_m, modes_m), ("", proposals.actions, proposals.modes)):
        to_modes = np.abs(candidates[:, :, None].astype(np.float64) - modes[:, None]).mean(axis=(3, 4))
        to_expert = to_modes[everyone, :, windows.side]
        per_window[f"demonstrated_error{unit}"] = to_expert[everyone, picked]
        per_window[f"nearest_mode_error{unit}"] = to_modes[everyone, picked].min(axis=1)
        per_window[f"best_of_n_error{unit}"] = to_expert.min(axis=1)
    per_window["hit_share"] = hits_obstacle(windows.scenes, proposals.actions_m[everyone, picked])
    likelier = windows.side if law == "shorter" else np.full(len(windows), LEFT if LEFT_SHARE[law] >= 0.5 else RIGHT)
    likelier_m = np.abs(modes_m[everyone, likelier].astype(np.float64) - windows.actions).mean(axis=(1, 2))
    num = proposals.actions.shape[1]
    demonstrated = proposals.modes[everyone, windows.side]
    wins = np.abs(proposals.actions.astype(np.float64) - demonstrated[:, None]).mean(axis=(2, 3)).argmin(axis=1)
    measures = {name: float(values.mean()) for name, values in per_window.items()}
    measures["likelier_way_error_m"] = float(likelier_m.mean())
    shares = {"win_shares": wins, "picked_shares": picked}
    lists = {name: (np.bincount(x, minlength=num) / len(windows)).tolist() for name, x in shares.items()}
    return {**measures, **lists}, {name: _short(per_window[name]) for name in COMPARED}


def examples(windows: TwoWaysWindows, proposals: Proposals, num: int = 3) -> list[dict[str, Any]]:
    """The first windows with all candidates, for the picture."""
    places = {"start": windows.scenes.start, "goal": windows.scenes.goal, "obstacle": windows.scenes.obstacle}
    return [
        {
            **{name: _short(place[i]) for name, place in places.items()},
            "demonstrated": _short(windows.actions[i]),
            "candidates": _short(proposals.actions_m[i]),
            "picked": int(proposals.picked[i]),
        }
        for i in range(min(num, len(windows)))
    ]


def make_cell(
    name: CellName,
    settings: Mapping[str, Any],
    run: Mapping[str, Any],
    collapse: str | None,
    measures: Mapping[str, Any],
    windows: Mapping[str, Any],
    drawn: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Put a cell together; the module's docstring says what the fields are."""
    return {
        **FORMAT.constants,
        "law": name.law,
        "method": name.method,
        "seed": name.seed,
        "settings": dict(settings),
        "fingerprint": fingerprint(settings),
        "run": dict(run),
        "collapse": collapse,
        "measures": dict(measures),
        "windows": dict(windows),
        "examples": [dict(row) for row in drawn],
    }


def read_cell(path: Path, name: CellName, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read and check a cell.

    Raises:
        FileNotFoundError: there is none. ValueError: no cell, another cell, or one made with other settings (says which).
    """
    cell = FORMAT.read(path)
    if (cell["law"], cell["method"], cell["seed"]) != (name.law, name.method, name.seed):
        raise ValueError(f"{path} holds the cell {cell['law']}-{cell['method']}-{cell['seed']} instead of {name}")
    if cell["fingerprint"] != fingerprint(settings):
        changed = "; ".join(differences(cell["settings"], settings))
        raise ValueError(f"{path} was made with other settings ({changed}); choose another out or delete it")
    lengths = {key: len(cell["windows"][key]) for key in COMPARED if key in cell["windows"]}
    if set(lengths) != set(COMPARED) or len(set(lengths.values())) != 1 or not set(MEASURES) <= set(cell["measures"]):
        raise ValueError(f"{path} is damaged: it has not one number per window and measure; delete it")
    return cell


def summarise(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`rows`: every law and method with each measure over the seeds (mean, min, max, seeds). `comparisons`: every law and
    measure of `COMPARED`, choice - single, so negative is better for choice: per seed with its 95 % interval over windows
    (and a p value for hits), then mean, min and max of the difference over the seeds.
    """
    laws = list(dict.fromkeys(cell["law"] for cell in cells))
    by_method = {(law, method): _of(cells, law, method) for law in laws for method in METHODS}
    rows = [
        {
            "law": law,
            "method": method,
            "seeds": [cell["seed"] for cell in group],
            "win_shares": [cell["measures"]["win_shares"] for cell in group],
            "picked_shares": [cell["measures"]["picked_shares"] for cell in group],
            **{name: _spread([cell["measures"][name] for cell in group]) for name in MEASURES},
        }
        for (law, method), group in by_method.items()
        if group
    ]
    comparisons = []
    for law in laws:
        single = {cell["seed"]: cell for cell in by_method[law, "single"]}
        pairs = [(cell, single[cell["seed"]]) for cell in by_method[law, "choice"] if cell["seed"] in single]
        for name in COMPARED:
            seeds = [compare(choice, other, name) for choice, other in pairs]
            if seeds:
                spread = _spread([row["difference"] for row in seeds])
                comparisons.append({"law": law, "measure": name, **spread, "seeds": seeds})
    return {"rows": rows, "comparisons": comparisons}


def compare(choice: Mapping[str, Any], single: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One measure of two cells on the same windows: `difference` = choice - single, `low` and `high` (95 %), `seed`.

    Hits: McNemar's exact test and the Agresti-Min interval; errors: percentile bootstrap of the mean difference.

    Raises:
        ValueError: the cells have not equally many windows.
    """
    first, second = choice["windows"][name], single["windows"][name]
    if name == "hit_share":
        paired = compare_paired(first, second)
        interval: dict[str, float] = {"low": paired.low, "high": paired.high, "p_value": paired.p_value}
        return {"seed": choice["seed"], "difference": paired.difference, **interval}
    if len(first) != len(second):
        raise ValueError(f"a paired comparison needs the same windows; got {len(first)} and {len(second)}")
    difference = np.asarray(first) - np.asarray(second)
    low, high = bootstrap_interval(difference, lambda values: float(values.mean()))
    return {"seed": choice["seed"], "difference": float(difference.mean()), "low": low, "high": high}


def _of(cells: Sequence[Mapping[str, Any]], law: str, method: str) -> list[Mapping[str, Any]]:
    return [cell for cell in cells if (cell["law"], cell["method"]) == (law, method)]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "min": min(values), "max": max(values), "values": list(values)}


def _short(values: NDArray[Any]) -> list[Any]:
    """For JSON: micrometres are enough."""
    return values.tolist() if values.dtype == np.bool_ else values.astype(np.float64).round(6).tolist()
