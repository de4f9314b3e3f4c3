"""The tables of the page, as Markdown."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cerebella.recipes.study_async.tables import table
from cerebella.recipes.study_cells import Cell
from cerebella.recipes.workcell_study.comparisons import BrainComparison, Comparison
from cerebella.recipes.workcell_study.names import EXPERT, TRAININGS
from cerebella.recipes.workcell_study.paper import VISION_LANGUAGE
from cerebella.recipes.workcell_study.plan import CONTROL_HZ
from cerebella.recipes.workcell_study.summary import Interval, Row, brain_label, brain_rows, right

NOTHING = "-"


def trainings_table(cells: Sequence[Cell], names: Sequence[str]) -> str:
    """Who is who, and what came out of each training."""
    made = {cell["name"]["training"]: cell for cell in cells if cell["kind"] == "training"}
    lines = []
    for name in names:
        stages, weights, rule = NOTHING, NOTHING, NOTHING
        if name in made:
            numbers = made[name]["numbers"]
            stages = ", ".join(f"{one['stage']} {one['num_steps']} ({one['last_loss']:g})" for one in numbers["stages"])
            weights, rule = f"`{numbers['weights']}`", numbers["mask_variant"]
        lines.append([f"`{name}`", TRAININGS[name].title, TRAININGS[name].claim, rule, stages, weights])
    return table(["training", "what it is", "claim", "mask", "stages: steps (last loss)", "weights"], lines)


def success_table(rows: Sequence[Row]) -> str:
    """A line per condition."""
    head = ["who", "delay", "success, %", "successes/min", "parts/min", "s per episode", "idle", "seam p50 / p95"]
    lines = []
    for row in rows:
        lines.append(
            [
                f"`{row.label}`",
                NOTHING if row.training == EXPERT else str(row.delay),
                _interval(row.success, 100.0, 0),
                _interval(row.successes_per_min, 1.0, 2),
                _interval(row.parts_per_min, 1.0, 2),
                f"{np.mean(row.column('num_ticks')) / CONTROL_HZ:.1f}",
                NOTHING if row.idle_share is None else f"{100 * row.idle_share:.0f} %",
                _pair(row.seam_p50, row.seam_p95),
                NOTHING if row.jerk_m_s3 is None else f"{row.jerk_m_s3:.0f}",
                NOTHING if row.age_ticks is None or not row.num_asked else f"{row.age_ticks:.1f}",
                _reasons(row),
                str(len(row.episodes)),
            ]
        )
    return table([*head, "jerk", "age, ticks", "how episodes ended", "episodes"], lines)


def comparison_table(found: Sequence[Comparison]) -> str:
    """The claims on the same episodes."""
    head = ["difference", "what differs", "delay", "success, points", "p (Holm)", "parts/min", "pairs"]
    lines = [
        [
            f"`{each.first}` - `{each.second}`",
            each.what,
            str(each.delay),
            _difference(each.success, 100.0, 1) + _star(each.p_holm),
            f"{each.p_value:.2g} ({each.p_holm:.2g})",
            _difference(each.parts_per_min, 1.0, 2),
            str(each.num_pairs),
        ]
        for each in found
    ]
    return table(head, lines)


def retention_table(cells: Sequence[Cell]) -> str:
    """Right answers in % per family, a column per brain."""
    brains = brain_rows(cells)
    families = brains[0]["numbers"]["families"]
    lines = []
    for family, numbers in families.items():
        answers = [right(cell, family) for cell in brains]
        rates = [f"{100 * sum(each) / len(each):.0f}" for each in answers]
        lines.append([family, str(len(numbers["right"])), f"{100 * numbers['blind']:.0f}", *rates])
    answers = [right(cell) for cell in brains]
    total = sum(len(each["right"]) for each in families.values())
    blind = sum(each["blind"] * len(each["right"]) for each in families.values()) / total
    rates = [f"**{100 * sum(each) / len(each):.1f}**" for each in answers]
    lines.append(["**all**", str(total), f"**{100 * blind:.1f}**", *rates])
    return table(["family", "questions", "blind", *(brain_label(cell) for cell in brains)], lines)


def brain_table(found: Sequence[BrainComparison]) -> str:
    """Differences between brains on the same questions."""
    lines = [
        [
            f"{each.first} - {each.second}",
            _difference(each.difference, 100.0, 1) + _star(each.p_holm),
            f"{each.p_value:.2g} ({each.p_holm:.2g})",
            str(each.num_questions),
        ]
        for each in found
    ]
    return table(["difference", "right answers, points", "p (Holm)", "questions"], lines)


def paper_table() -> str:
    """Mean accuracy of the paper's brains on ten public benchmarks."""
    lines = [[name, f"{np.mean(values):.1f}"] for name, values in VISION_LANGUAGE.items()]
    return table(["the paper's brain", "mean of ten benchmarks, %"], lines)


def stream_table(cells: Sequence[Cell]) -> str:
    """A line per stream."""
    head = ["who", "minutes", "to its end", "picked", "missed", "wrong", "parts/min: first third", "last third"]
    lines = []
    for cell in cells:
        if cell["kind"] != "stream":
            continue
        rows, name = cell["numbers"]["rows"], cell["name"]
        lines.append(
            [
                f"`{name['training']}`" + ("" if name["training"] == EXPERT else f", {name['delay']} ticks"),
                f"{rows[-1]['s'] / 60:.4g}",
                "yes" if cell["numbers"]["is_whole"] else "no",
                *(f"{rows[-1][what]:.0f}" for what in ("picked", "missed", "wrong")),
                *_thirds(rows),
                f"{rows[len(rows) // 10]['rss_mb']:.0f} / {rows[-1]['rss_mb']:.0f}",
                f"{cell['cpu_s'] / 60:.1f}",
            ]
        )
    return table([*head, "MB: after a tenth / at the end", "CPU min"], lines)


def _thirds(rows: Sequence[dict[str, float]]) -> tuple[str, str]:
    third = len(rows) // 3
    if not third:
        return NOTHING, NOTHING
    first = 60 * rows[third - 1]["picked"] / rows[third - 1]["s"]
    start, end = rows[-third - 1], rows[-1]
    return f"{first:.2f}", f"{60 * (end['picked'] - start['picked']) / (end['s'] - start['s']):.2f}"


def _reasons(row: Row) -> str:
    counts = Counter(outcome.reason or "the limit of ticks" for outcome in row.episodes.values())
    return ", ".join(f"{reason} {num}" for reason, num in counts.most_common())


def _interval(value: Interval, scale: float, digits: int) -> str:
    mean, low, high = (scale * each for each in value)
    return f"{mean:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def _difference(value: Interval, scale: float, digits: int) -> str:
    mean, low, high = (scale * each for each in value)
    return f"{mean:+.{digits}f} ({low:+.{digits}f} .. {high:+.{digits}f})"


def _pair(first: float | None, second: float | None) -> str:
    return NOTHING if first is None or second is None else f"{first:.2f} / {second:.2f}"


def _star(p_value: float) -> str:
    return " *" if p_value < 0.05 else ""
