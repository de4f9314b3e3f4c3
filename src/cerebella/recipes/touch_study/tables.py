"""The tables of the page, as Markdown. No rate without the number of trials and its 95 % interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from cerebella.evaluation.statistics import compare_paired, holm
from cerebella.recipes.touch_study import paper
from cerebella.recipes.touch_study.policies import entrant
from cerebella.recipes.touch_study.summary import (
    GRADES,
    STRICT,
    Rate,
    Spread,
    Summary,
    by_kind,
    by_object,
    is_success,
    summarise,
)
from cerebella.recipes.touch_study.trials import Row

NOTHING = "-"
Rows = Sequence[Row]
Named = tuple[str, ...]


def grades_table(conditions: Mapping[Named, Rows], head: Named, reported: Sequence[paper.Reported] = ()) -> str:
    """Two lines per condition: at the end of the loop, and at any of its steps, as the paper counts; then the paper's."""
    lines = []
    for name, rows in conditions.items():
        summary = summarise(rows)
        for counted, rates in (("at the end", summary.at_end), ("at any step", summary.at_any_step)):
            lines.append([*name, counted, str(summary.num_trials), *(percent(rates[grade]) for grade in GRADES)])
    for row in reported:
        cells = [_reported(row, grade) for grade in GRADES]
        trials = NOTHING if row.num_trials is None else str(row.num_trials)
        lines.append([row.what, row.goal, *[""] * (len(head) - 2), "at any step", trials, *cells])
    return table([*head, "counted", "trials", *(f"{grade}, %" for grade in GRADES)], lines)


def errors_table(conditions: Mapping[Named, Rows], head: Named) -> str:
    """Start gap, errors at the end, and how many were refused."""
    lines = []
    for name, rows in conditions.items():
        s = summarise(rows)
        lines.append(
            [
                *name,
                str(s.num_trials),
                _pair(s.start_mm, s.start_deg),
                percent(s.at_start[STRICT]),
                with_interval(s.end_mm),
                with_interval(s.end_deg),
                _quantiles(s),
                _pair(s.answered_mm, s.answered_deg),
                str(s.num_refused),
                f"{s.mean_moves:.1f}" if s.mean_moves is not None else NOTHING,
            ]
        )
    names = ["trials", "start, mm / deg", f"starts within {STRICT}, %", "end, mm", "end, deg"]
    names += ["end, median (p90)", "end if not refused, mm / deg", "refused", "moves"]
    return table([*head, *names], lines)


def kinds_table(conditions: Mapping[Named, Rows], head: Named) -> str:
    """Per class: success at the end, error, refusals."""
    return _split_table(conditions, (*head, "class"), by_kind)


def objects_table(conditions: Mapping[Named, Rows], head: Named) -> str:
    """Per object: the same."""
    return _split_table(conditions, (*head, "object"), by_object)


def refusals_table(conditions: Mapping[Named, Rows], head: Named) -> str:
    """How the loops ended, refusals by reason, and what had to be drawn again."""
    summaries = {name: summarise(rows) for name, rows in conditions.items()}
    problems = sorted({problem for s in summaries.values() for problem in s.refused})
    lines = [
        [
            *name,
            str(s.num_trials),
            percent(Rate.of(row["outcome"] == "refused" for row in conditions[name])),
            *(str(s.refused.get(problem, 0)) for problem in problems),
            str(s.num_unstable),
            str(s.num_went_back),
            str(s.num_redrawn),
        ]
        for name, s in summaries.items()
    ]
    names = ["trials", "refused, %", *problems, "simulation failed", "went back", "drawn again"]
    return table([*head, *names], lines)


def comparison_table(refiners: Mapping[str, Rows], reference: str) -> str:
    """Every refiner on the same trials as the reference: success, error, and the paired difference at the strict grade."""
    if reference not in refiners:
        return "The reference has not been run yet.\n"
    compared = {name: _paired(rows, refiners[reference]) for name, rows in refiners.items()}
    others = [name for name, (mine, _) in compared.items() if name != reference and mine]
    tests = {name: compare_paired(*compared[name]) for name in others}
    adjusted = dict(zip(others, holm([tests[name].p_value for name in others]), strict=True))
    lines = []
    for name, rows in refiners.items():
        s = summarise(rows)
        difference = [NOTHING, NOTHING]
        if name in tests:
            t = tests[name]
            difference = [
                f"{100 * t.difference:+.1f} ({100 * t.low:+.1f} .. {100 * t.high:+.1f}), {t.num_pairs} pairs",
                f"{adjusted[name]:.2g}",
            ]
        rates = [percent(s.at_end[grade]) for grade in GRADES]
        errors = _pair(s.end_mm, s.end_deg)
        lines.append([f"`{name}`", entrant(name).title, str(s.num_trials), *rates, errors, *difference])
    names = ["refiner", "what it is", "trials", *(f"{grade}, %" for grade in GRADES), "end, mm / deg"]
    return table([*names, f"difference at {STRICT}, points", "p"], lines)


def faults_table(conditions: Mapping[Named, Rows], bound: tuple[float, float]) -> str:
    """Refused, degraded within the strict grade, wrong without a word; and the farthest wrist. `bound`: mm, degrees."""
    lines = []
    for name, rows in conditions.items():
        s = summarise(rows)
        refused = [row["outcome"] == "refused" for row in rows]
        good = [is_success(row, STRICT) for row in rows]
        silent = [not (a or b) for a, b in zip(refused, good, strict=True)]
        reasons = ", ".join(f"{problem} {num}" for problem, num in s.refused.items()) or NOTHING
        is_within = s.way_mm <= bound[0] + 1e-3 and s.way_deg <= bound[1] + 1e-3
        shares = (percent(Rate.of(flags)) for flags in (refused, good, silent))
        way = f"{s.way_mm:.1f} / {s.way_deg:.1f}"
        lines.append([*name, str(s.num_trials), *shares, reasons, way, "yes" if is_within else "**no**"])
    names = ["fault", "handling", "trials", "refused, %", f"within {STRICT}, %", "neither, %", "refused because of"]
    return table([*names, "farthest, mm / deg", f"within {bound[0]:g} mm / {bound[1]:g} deg"], lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(rows) + "\n"


def percent(rate: Rate) -> str:
    """`97.2 (95.1..98.4)`: the rate in percent with its interval."""
    if rate.share is None:
        return NOTHING
    return f"{100 * rate.share:.1f} ({100 * rate.low:.1f}..{100 * rate.high:.1f})"


def with_interval(spread: Spread | None) -> str:
    """`0.42 (0.40..0.45)`: the mean with its interval; `0.42 (n = 3)` where there are too few for one."""
    if spread is None:
        return NOTHING
    if spread.low is None or spread.high is None:
        return f"{spread.mean:.2f} (n = {spread.num})"
    return f"{spread.mean:.2f} ({spread.low:.2f}..{spread.high:.2f})"


def _split_table(conditions: Mapping[Named, Rows], head: Named, split: Callable[[Rows], Mapping[str, Rows]]) -> str:
    lines = []
    for name, rows in conditions.items():
        for part, mine in split(rows).items():
            s = summarise(mine)
            rates = [percent(s.at_end[grade]) for grade in GRADES]
            errors = [_pair(s.start_mm, s.start_deg), with_interval(s.end_mm), with_interval(s.end_deg)]
            lines.append([*name, part, str(s.num_trials), *rates, *errors, str(s.num_refused)])
    names = ["trials", *(f"{grade}, %" for grade in GRADES), "start, mm / deg", "end, mm", "end, deg", "refused"]
    return table([*head, *names], lines)


def _paired(rows: Rows, reference: Rows) -> tuple[list[bool], list[bool]]:
    """Success at the strict grade of two refiners in the trials that both have run."""
    there = {(row["object"], row["number"]): row for row in reference}
    both = [(row, there[key]) for row in rows if (key := (row["object"], row["number"])) in there]
    return [is_success(mine, STRICT) for mine, _ in both], [is_success(theirs, STRICT) for _, theirs in both]


def _reported(row: paper.Reported, grade: str) -> str:
    rate, interval = row.rate(grade), row.interval(grade)
    if rate is None:
        return NOTHING
    return f"{100 * rate:.1f}" + (f" ({100 * interval[0]:.1f}..{100 * interval[1]:.1f})" if interval else "")


def _pair(first: Spread | None, second: Spread | None) -> str:
    return NOTHING if first is None or second is None else f"{first.mean:.2f} / {second.mean:.2f}"


def _quantiles(s: Summary) -> str:
    if s.end_mm is None or s.end_deg is None:
        return NOTHING
    return f"{s.end_mm.median:.2f} ({s.end_mm.p90:.2f}) mm, {s.end_deg.median:.2f} ({s.end_deg.p90:.2f}) deg"
