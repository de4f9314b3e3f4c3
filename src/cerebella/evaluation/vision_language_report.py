"""What was kept and what was lost: one page and one JSON file about several brains that answered the same questions."""

import base64
import html
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cerebella.envs.scenes.questions import QuestionSet
from cerebella.evaluation.plots import figure_to_png
from cerebella.evaluation.vision_language import VisionLanguageResult, compare

SCHEMA_VERSION = "1.0"

_BAR_COLOURS = ("#7b8794", "#0f766e", "#d9822b", "#5b5ea6", "#b04a5a")
_NUM_EXAMPLES = 8
_EXAMPLE_HEIGHT_PX = 192
_MAX_SAID = 100


def retention_record(results: Mapping[str, VisionLanguageResult], run: Mapping[str, Any]) -> dict[str, Any]:
    """JSON of several results on the same questions; the first one is what the others are compared with.

    Args:
        results: by label, e.g. `before`, `with VL data`, `without VL data`.
        run: `fingerprint.run_fingerprint`.

    Raises:
        ValueError: no result, or they were not asked the same questions.
    """
    if not results:
        raise ValueError("a retention record needs at least one result; got none")
    reference = next(iter(results))
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": "scenes",
        "run": dict(run),
        "reference": reference,
        "results": {label: result.as_dict() for label, result in results.items()},
        "differences": {
            label: {family: vars(paired) for family, paired in compare(result, results[reference]).items()}
            for label, result in results.items()
            if label != reference
        },
    }


def write_retention(
    path: Path,
    results: Mapping[str, VisionLanguageResult],
    run: Mapping[str, Any],
    questions: QuestionSet | None = None,
) -> list[Path]:
    """Write `path` (HTML, nothing external) and the record beside it (`.json`); returns both paths.

    Args:
        questions: what was asked; with it the page shows pictures, questions and answers.

    Raises:
        ValueError: see `retention_record`; or `questions` are not those of the results.
    """
    record = retention_record(results, run)
    examples = "" if questions is None else _examples(results, questions)
    body = (
        "<h1>What the brain still sees</h1>"
        f"<p>{_lead(results)}</p>"
        f"{_picture(figure_to_png(plot_retention(results)), 'accuracy per family')}"
        "<h2>Accuracy in %, with 95 % intervals</h2>"
        f"{_table(results, record['differences'])}"
        f"{examples}"
    )
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>What the brain still sees</title>"
        f"<style>{_CSS}</style></head><body><main>{body}</main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    record_path = path.with_suffix(".json")
    record_path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    return [path, record_path]


def plot_retention(results: Mapping[str, VisionLanguageResult]) -> Figure:
    """Bars of accuracy with Wilson intervals, grouped by family; a black tick marks the chance level of each family."""
    families = [row.family for row in next(iter(results.values())).summary]
    with matplotlib.rc_context({"font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(max(8.0, 1.6 + 1.05 * len(families)), 3.4), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(results)
        place = np.arange(len(families))
        for k, (label, result) in enumerate(results.items()):
            rows = [result.family(family) for family in families]
            middle = np.array([100 * row.accuracy for row in rows])
            errors = np.abs(np.array([[100 * row.low for row in rows], [100 * row.high for row in rows]]) - middle)
            x = place + (k - (len(results) - 1) / 2) * width
            colour = _BAR_COLOURS[k % len(_BAR_COLOURS)]
            axes.bar(x, middle, 0.92 * width, yerr=errors, color=colour, label=label, error_kw={"elinewidth": 1})
        chance = [100 * next(iter(results.values())).family(family).chance for family in families]
        axes.hlines(chance, place - 0.45, place + 0.45, colors="#1c2026", linewidth=1.6, label="chance")
        axes.set(ylabel="% right", ylim=(0, 103), xticks=place)
        axes.set_xticklabels(families)
        axes.legend(frameon=False, ncols=len(results) + 1, loc="lower left", bbox_to_anchor=(0, 1))
        return figure


def _lead(results: Mapping[str, VisionLanguageResult]) -> str:
    first = next(iter(results.values()))
    counts = {row.items for row in first.summary}
    items = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return (
        f"{items} questions per family about held-out scenes, seed {first.seed}, protocol {first.protocol}. "
        "Chance is the accuracy of the best constant answer."
    )


def _table(results: Mapping[str, VisionLanguageResult], differences: Mapping[str, Mapping[str, Any]]) -> str:
    labels = list(results)
    head = "<th>family</th><th>chance</th>" + "".join(f"<th>{html.escape(label)}</th>" for label in labels)
    head += "".join(f"<th>{html.escape(label)} &minus; {html.escape(labels[0])}</th>" for label in differences)
    rows = []
    for summary in results[labels[0]].summary:
        cells = [summary.family, f"{100 * summary.chance:.1f}"]
        for label in labels:
            row = results[label].family(summary.family)
            cells.append(f"{100 * row.accuracy:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})")
        for label in differences:
            paired = differences[label][summary.family]
            low, high = 100 * paired["low"], 100 * paired["high"]
            cells.append(f"{100 * paired['difference']:+.1f} ({low:+.1f} to {high:+.1f})")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _examples(results: Mapping[str, VisionLanguageResult], questions: QuestionSet) -> str:
    """A few pictures with what was asked, what is right, and what each brain said."""
    texts = [question.text for question in questions.questions]
    if any([item.text for item in result.items] != texts for result in results.values()):
        raise ValueError("the question set is not the one that the results come from")
    chosen = _spread(questions)
    figure = Figure(figsize=(12, 6), layout="constrained")
    grid = figure.subplots(2, -(-len(chosen) // 2), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    pictures = questions.images(chosen, _EXAMPLE_HEIGHT_PX)
    for axes, index, picture in zip(grid.flat, chosen, pictures, strict=False):
        question = questions.questions[index]
        said = [f"{label}: {_shortened(result.items[index].said)}" for label, result in results.items()]
        lines = [question.text, f"expected: {question.answer}", *said]
        axes.imshow(picture)
        axes.set_title("\n".join(textwrap.fill(line, 46) for line in lines), fontsize=7.5, loc="left")
    return f"<h2>A few of the questions</h2>{_picture(figure_to_png(figure), 'questions and answers')}"


def _spread(questions: QuestionSet) -> list[int]:
    """Indices of a few questions, of as many families as there are."""
    by_family: dict[str, list[int]] = {}
    for index, question in enumerate(questions.questions):
        by_family.setdefault(question.family, []).append(index)
    rounds = max(len(indices) for indices in by_family.values())
    order = [indices[k] for k in range(rounds) for indices in by_family.values() if k < len(indices)]
    return order[:_NUM_EXAMPLES]


def _shortened(text: str) -> str:
    """Printable and on one line; a brain that has lost its words can say anything."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= _MAX_SAID else f"{plain[:_MAX_SAID]} ..."


def _picture(png: bytes, caption: str) -> str:
    return f'<img alt="{caption}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


_CSS = """
body{margin:0;background:#fbfbf9;color:#1c2026;font:16px/1.55 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1100px;margin:0 auto;padding:40px 28px}
h2{font-size:19px;margin:36px 0 10px}
img{width:100%;border:1px solid #e3e5e8;border-radius:8px;background:#fff}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:6px 8px;text-align:right;border-bottom:1px solid #e3e5e8}
th:first-child,td:first-child{text-align:left}
"""
