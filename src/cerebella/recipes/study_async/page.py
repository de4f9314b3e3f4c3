"""The page of the study, from the cells alone: pictures, tables, budget. Words that a person wrote are kept apart.

<page>                          Markdown
<page without .md>/             conclusions.md (by hand, taken over word for word), pictures, table.csv,
                                comparisons.csv, cells.jsonl.gz: all cells and the plan
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from cerebella.evaluation.plots import figure_to_png
from cerebella.recipes.study_async import budget, comparisons, figures, tables
from cerebella.recipes.study_async.cells import FORMAT
from cerebella.recipes.study_async.methods import GROUPS
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe
from cerebella.recipes.study_async.summary import Row, summarise
from cerebella.recipes.study_async.trap_figures import copy_shares
from cerebella.recipes.study_async.trap_summary import TrapRow, summarise_traps
from cerebella.recipes.study_cells import Cell
from cerebella.training.durable_files import write_durably

CONCLUSIONS = "conclusions.md"
_CSV_FIELDS = (
    *("task", "horizon", "execute_horizon", "method", "delay", "perturbation", "num_seeds", "num_episodes"),
    *("rate", "low", "high", "seed_rates", "throughput_per_min", "retention", "idle_share", "seam_p50", "seam_p95"),
    *("jerk_m_s3", "age_ticks", "late_share", "untrained_share", "mean_reaction_ticks", "num_unmoved", "cpu_s"),
)


def write_page(recipe: StudyAsyncRecipe) -> list[Path]:
    """Bundle the cells in `recipe.out`, then write the page from the bundle; returns the paths written.

    Raises:
        FileNotFoundError: there are no cells.
    """
    FORMAT.bundle_folder(recipe.cells, recipe.bundle, recipe.planned())
    return [recipe.bundle, *rebuild(recipe)]


def rebuild(recipe: StudyAsyncRecipe) -> list[Path]:
    """Write the page from the bundle beside it, with the plan that the bundle holds; returns the paths written.

    Raises:
        FileNotFoundError: there is no bundle.
    """
    planned, cells = FORMAT.read_bundle(recipe.bundle)
    study = _Study(StudyAsyncRecipe.of_plan(planned, recipe.page), cells)
    recipe.media.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in study.pictures().items():
        written.append(recipe.media / name)
        written[-1].write_bytes(_small_png(figure))
    for name, text in study.files().items():
        written.append(recipe.media / name)
        written[-1].write_text(text)
    write_durably(recipe.page, study.text())
    return [*written, recipe.page]


def plan_table(recipe: StudyAsyncRecipe, cells: Sequence[Cell]) -> str:
    """What is planned, what it costs, and what is left out."""
    return budget.plan_table(recipe, cells) + "\n" + budget.dropped_table(recipe, cells)


@dataclass
class _Study:
    """Everything that the page says."""

    recipe: StudyAsyncRecipe
    cells: Sequence[Cell]

    def __post_init__(self) -> None:
        self.rows: list[Row] = summarise(self.cells)
        self.traps: list[TrapRow] = summarise_traps(self.cells)
        self.overall = comparisons.overall(self.rows)
        self.horizons = sorted({row.horizon for row in self.rows})
        delays = sorted({row.delay for row in self.rows if isinstance(row.delay, int) and row.is_main})
        self.shown = list(dict.fromkeys([*delays[:1], *delays[len(delays) // 2 :][:1], *delays[-1:]]))
        self.middle = self.shown[len(self.shown) // 2] if self.shown else 0

    def pictures(self) -> dict[str, Figure]:
        """File name -> figure; those without data are left out."""
        first = self.horizons[0] if self.horizons else 0
        found: dict[str, Figure | None] = {}
        for horizon in self.horizons:
            for group in self._groups(horizon):
                found[f"delay-{group}-h{horizon}.png"] = figures.delay_curves(self.rows, horizon, group)
            for delay in sorted({row.delay for row in self.traps if row.horizon == horizon}):
                found[f"copy-h{horizon}-d{delay}.png"] = copy_shares(self.traps, horizon, delay)
            found[f"execute-horizon-h{horizon}.png"] = figures.execute_horizons(
                self.rows, horizon, self.recipe.other_methods, self.recipe.other_delays
            )
        modes = next(iter(self._groups(first)), "modes")
        found["seams.png"] = figures.seam_histograms(self.rows, first, modes, self.shown)
        found["reactions.png"] = figures.reaction_times(self.rows, first, modes, self.shown)
        return {name: figure for name, figure in found.items() if figure is not None}

    def _groups(self, horizon: int) -> list[str]:
        """Groups of methods with something to compare: two of their methods, or more, were run."""
        run = {row.method for row in self.rows if row.horizon == horizon and row.is_main}
        return [group for group, methods in GROUPS.items() if len(run.intersection(methods)) > 1]

    def files(self) -> dict[str, str]:
        """File name -> text of the long tables."""
        rows = [_csv_row(row) for row in self.rows]
        detail = [asdict(each) for each in comparisons.in_detail(self.rows)]
        return {
            "table.csv": _csv(_CSV_FIELDS, rows),
            "comparisons.csv": _csv(list(detail[0]) if detail else [], detail),
        }

    def text(self) -> str:
        """The page."""
        from_pixels = self.recipe.observation == "pixels"
        parts = [
            f"# Which asynchronous trick does what{', from pixels' * from_pixels}",
            f"Written by `cerebella train study-async{'-pixels' * from_pixels}` from "
            f"[all cells]({self._link('cells.jsonl.gz')}); `--do rebuild` writes it again. "
            "Only the conclusions are by hand.",
            "## Conclusions",
            self._conclusions(),
            "## What was measured",
            self._described(),
            tables.methods_table(self.recipe.methods),
            *self._success(),
            *self._hand_overs(),
            *self._execute_horizons(),
            *self._trap(),
            *self._videos(),
            "## Budget",
            self._spent(),
            budget.plan_table(self.recipe, self.cells),
            budget.dropped_table(self.recipe, self.cells),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def _conclusions(self) -> str:
        path = self.recipe.media / CONCLUSIONS
        return path.read_text() if path.is_file() else "None have been written yet."

    def _described(self) -> str:
        trained = [cell["numbers"]["num_parameters"] for cell in self.cells if cell["kind"] == "training"]
        size = f"{min(trained) / 1e6:.2f} to {max(trained) / 1e6:.2f} M parameters" if trained else "no policy yet"
        recipe = self.recipe
        seen = "state vectors" if recipe.observation == "state" else "pictures of 64 x 96 and what the robot measures"
        return (
            f"Small policies ({size}) with the project's own blocks act from {seen} on {len(recipe.tasks)} tasks of "
            f"the dynamic suite at 30 Hz: {', '.join(recipe.tasks)}. Half of each chunk is executed. A delay of d ticks "
            "lies between every observation and the arrival of its chunk; `burst` is a trace with a median of 3 ticks and "
            "rare runs of much slower replies. Disturbed episodes have one strong event more than undisturbed ones. Every "
            f"training seed ({', '.join(map(str, recipe.seeds))}) drives its own {recipe.num_episodes} episodes per "
            "condition, and all methods drive the same ones. Intervals of success are Wilson's, 95 %, over the episodes "
            "of all seeds."
        )

    def _success(self) -> Iterable[str]:
        for horizon in self.horizons:
            yield f"## Success under delay, H = {horizon}"
            yield f"All tasks, undisturbed and disturbed together; success in %, other columns at d = {self.middle}."
            yield tables.overall_table(self.rows, horizon, self.middle)
            yield (
                "AUC: mean success over the constant delays over that of `sync` without delay. Seam: step at a hand-over "
                "over the usual step. Jerk: RMS of the commands, m/s^3. Runs: cells behind a line, of all tasks, delays and "
                "seeds."
            )
            captions = {
                "modes": "Ways of running",
                "variants": "The paper's tricks, one at a time",
                "data": "Other training",
                "margin": "Promises with and without a spare tick",
            }
            for group, caption in captions.items():
                yield from self._picture(
                    f"delay-{group}-h{horizon}.png", f"{caption}: success against delay, H = {horizon}"
                )
            yield (
                "Differences in points of success, the mean over delays from 2 on (bursts included), undisturbed and "
                "disturbed, on the same episodes. In brackets 95 % (bootstrap over episodes), * where p < 0.05 after Holm's "
                "correction over all methods (and tasks) of the question; the test flips signs per episode. These take the "
                "trained policies as given; over trainings: 95 % of Student's t, one value per task and training seed."
            )
            yield tables.comparison_table(self.overall, horizon)
            yield "<details><summary>Every task and delay</summary>"
            for task in dict.fromkeys(row.task for row in self.rows if row.horizon == horizon):
                for perturbation in (False, True):
                    yield f"**{task}, {'disturbed' if perturbation else 'undisturbed'}** (H = {horizon})"
                    yield tables.task_table(self.rows, horizon, task, perturbation)
            yield "</details>"
        yield (
            f"All numbers: [table.csv]({self._link('table.csv')}); McNemar's exact test for every task, delay and "
            f"disturbance: [comparisons.csv]({self._link('comparisons.csv')})."
        )

    def _hand_overs(self) -> Iterable[str]:
        if not self.horizons:
            return
        first = self.horizons[0]
        yield f"## Hand-overs and reactions, H = {first}"
        yield from self._picture("seams.png", "Steps at hand-overs against the usual step")
        yield from self._picture("reactions.png", "Ticks until the commands change after a disturbance")
        yield (
            "Mean ticks from a disturbance until the commands leave those of the undisturbed twin by 2 mm, all tasks; in "
            "brackets the share of episodes in which they never did."
        )
        yield tables.reaction_table(self.rows, first)

    def _execute_horizons(self) -> Iterable[str]:
        for horizon in self.horizons:
            table = tables.execute_horizon_table(
                self.rows, horizon, self.recipe.other_methods, self.recipe.other_delays
            )
            if table:
                yield f"## Execute horizon, H = {horizon}"
                yield "All tasks, undisturbed and disturbed together: success in %, in brackets 95 %."
                yield table
                yield from self._picture(f"execute-horizon-h{horizon}.png", "Success against the execute horizon")

    def _trap(self) -> Iterable[str]:
        for horizon in self.horizons:
            for delay in sorted({row.delay for row in self.traps if row.horizon == horizon}):
                yield f"## The copy trap, H = {horizon}, {delay} stale rows"
                yield (
                    "Open loop: the prefix was promised by a plan that the world has overtaken. Copied: 0 % is what the "
                    "expert does now, 100 % what the old plan would have gone on with. Bars and first brackets: 95 % over "
                    "windows; dots: training seeds; over seeds: 95 % of Student's t over the seeds' means. Right: the same "
                    "scenes behind a prefix of now."
                )
                yield from self._picture(f"copy-h{horizon}-d{delay}.png", "What is copied, and how large the error is")
                yield tables.trap_table(self.traps, horizon, delay)

    def _videos(self) -> Iterable[str]:
        films = sorted(path.name for path in self.recipe.media.glob("*.gif"))
        if films:
            yield "## Films"
            for name in films:
                yield f"![{name.removesuffix('.gif')}]({self._link(name)})"

    def _spent(self) -> str:
        commits = sorted({str(cell["run"]["commit"])[:10] for cell in self.cells})
        machines = sorted({cell["run"]["processor"] for cell in self.cells})
        return (
            f"{len(self.cells)} cells, {budget.cpu_hours(self.cells):.1f} CPU hours on one thread each "
            f"({', '.join(machines)}; commits {', '.join(commits)}). Expected hours come from a pilot. A training that was "
            "killed and continued counts from its last start."
        )

    def _picture(self, name: str, caption: str) -> Iterable[str]:
        if (self.recipe.media / name).is_file():
            yield f"![{caption}]({self._link(name)})"

    def _link(self, name: str) -> str:
        return f"{self.recipe.media.name}/{name}"


def _small_png(figure: Figure) -> bytes:
    """PNG with a palette: a quarter of the size, in a repository that keeps every version."""
    with Image.open(io.BytesIO(figure_to_png(figure))) as picture:
        buffer = io.BytesIO()
        picture.convert("RGB").quantize(colors=192, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _csv_row(row: Row) -> dict[str, Any]:
    known = {name: getattr(row, name) for name in _CSV_FIELDS if hasattr(row, name)}
    mean = sum(row.reactions) / len(row.reactions) if row.reactions else None
    return {**known, "num_seeds": len(row.seeds), "mean_reaction_ticks": mean}


def _csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_plain(row[name]) for name in names])
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.5g}"
    return " ".join(str(_plain(each)) for each in value) if isinstance(value, tuple) else "" if value is None else value
