"""What the page says: its sections, in order, each from the cells that it needs; a section without cells is left out."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from matplotlib.figure import Figure

from cerebella.recipes.study_cells import Cell
from cerebella.recipes.touch_study import figures, paper, tables, tactile_figures
from cerebella.recipes.touch_study.cells import DisturbanceName, ExampleName, Name, TrainingName, TrialsName, name_of
from cerebella.recipes.touch_study.examples import from_row
from cerebella.recipes.touch_study.page_tables import budget_table, missing_table, ranges_table, training_table
from cerebella.recipes.touch_study.plan import GOALS, WORLDS, compared
from cerebella.recipes.touch_study.policies import DIRECT, ENTRANTS, MAIN
from cerebella.recipes.touch_study.protocol import Handling
from cerebella.recipes.touch_study.summary import by_kind, disturbances
from cerebella.recipes.touch_study.tables import Named, Rows
from cerebella.recipes.touch_study.trials import Row

_MAX_STEPS = 5
HANDLINGS: tuple[Handling, ...] = ("strict", "lenient")


class Study:
    """All cells, and the page that they make.

    Args:
        planned: name of a cell -> how many rows it should have. cells: those that there are.
        folder: where pictures and films are, seen from the page.
    """

    def __init__(self, planned: Mapping[str, int], cells: Sequence[Cell], folder: str) -> None:
        self.planned, self.cells, self.folder = planned, cells, folder
        self._cells: dict[Name, Cell] = {name_of(cell): cell for cell in cells}

    def rows(self, name: Name) -> list[Row]:
        """Of one cell; none if it has not been run."""
        return self._cells[name]["rows"] if name in self._cells else []

    @property
    def reference(self) -> str:
        """What the others are compared with, see `TouchStudy.reference`."""
        return DIRECT if self.rows(TrainingName(DIRECT)) or self.rows(compared(DIRECT, GOALS[0])) else MAIN

    @cached_property
    def pictures(self) -> dict[str, Figure]:
        """File name -> figure; those without data are left out."""
        found: dict[str, Figure | None] = {
            "grades.png": figures.grades(
                {world: {goal: self.rows(TrialsName(MAIN, world, goal)) for goal in GOALS} for world in WORLDS}
            ),
            **{f"fine-tuning-{handling}.png": figures.tuning(self._sizes(handling)) for handling in HANDLINGS},
        }
        for goal in GOALS:
            worlds = {world: self.rows(TrialsName(MAIN, world, goal)) for world in WORLDS}
            found[f"steps-{goal}.png"] = figures.steps(worlds, _MAX_STEPS)
        for world in WORLDS:
            examples = [from_row(row) for row in self.rows(ExampleName(MAIN, world))]
            found[f"tactile-{world}.png"] = tactile_figures.start_goal_after(examples)
            pushes = disturbances(self.rows(DisturbanceName(MAIN, world)))
            found[f"disturbance-{world}.png"] = figures.disturbance(pushes)
        return {name: figure for name, figure in found.items() if figure is not None}

    def text(self, conclusions: str, films: Sequence[str]) -> str:
        """The page. `films`: files in the folder."""
        parts = [
            "# How near touch alone brings a grasp to its goal",
            f"Written by `cerebella touch study --do page` from [all cells]({self.folder}/cells.jsonl.gz); `--do rebuild` writes "
            "it again. Only the conclusions are by hand.",
            "## Conclusions",
            conclusions,
            *self._described(),
            *self._main(),
            *self._felt(),
            *self._refusals(),
            *self._steps(),
            *self._unseen(),
            *self._tuning(),
            *self._comparisons(),
            *self._disturbances(),
            *self._faults(),
            *self._films(films),
            *self._budget(),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def _picture(self, name: str, caption: str) -> Iterator[str]:
        if name in self.pictures:
            yield f"![{caption}]({self.folder}/{name})"

    def _described(self) -> Iterator[str]:
        yield "## What was measured"
        yield (
            "A trial: an object lies in the hand at a random start, and the hand brings it to a goal that it was shown once, by "
            "touch and its joints alone: read, predict the wrist's motion, open, move, close, up to five times. A fixed goal is "
            "the middle of an object's ranges, a random one is drawn like the start. Every trial has a random hand (stiffness "
            "and curvature of the skin, place of the arrays, friction, force), a random sensor, which has drifted between goal "
            "and start, fresh noise in every reading, and errors of the joints. The wrist is exact and the object does not "
            "move. `skin` is the contact model of the training. `spheres` is the other one, with other sensors: what stands in "
            "for hardware here. It is not hardware."
        )
        yield (
            "A trial counts as a success at a grade if the loop has ended, has not refused, and is within both limits **at the "
            "end**. The paper (TacRefineNet, arXiv 2509.25746, second version) counts the first step under the grade: **at any "
            "step**. Refusals are failures in both. Rates are in %, in brackets the 95 % interval of Wilson; means of errors "
            "of ten trials or more have a bootstrap interval. Neither knows that trials share objects. The paper's starts, objects and hand are "
            "not published, so its numbers are beside ours, not a contest; look at the start gap as well."
        )
        cells = [cell for name in _both(MAIN) if (cell := self._cells.get(name)) is not None]
        if cells:
            yield "<details><summary>What is drawn, and from which ranges</summary>"
            yield ranges_table(cells)
            yield "</details>"

    def _main(self) -> Iterator[str]:
        conditions = {(name.world, name.goal): self.rows(name) for name in _both(MAIN)}
        conditions = {name: rows for name, rows in conditions.items() if rows}
        if not conditions:
            return
        head = ("world", "goal")
        yield "## In the world of the training, and in the other one"
        yield tables.grades_table(conditions, head, [paper.SIMULATION, *paper.HARDWARE.values()])
        yield "Intervals of the paper's rates are computed from its 150 trials; how many it ran in simulation we do not know."
        yield from self._picture("grades.png", "Success per grade, ours at the end of the loop")
        yield "Errors. Means over all trials, refused ones as they were left; `start`: before the first move."
        yield tables.errors_table(conditions, head)
        for goal in GOALS:
            yield from self._picture(f"steps-{goal}.png", f"True error after every move, {goal} goal")
        yield "Per class, at the end:"
        yield tables.kinds_table(conditions, head)
        yield "<details><summary>Per object</summary>"
        yield tables.objects_table(conditions, head)
        yield "</details>"

    def _felt(self) -> Iterator[str]:
        if any(self.rows(ExampleName(MAIN, world)) for world in WORLDS):
            yield "## What the fingertips feel"
            yield "The first trial with a random goal of one plate, disk and rod; the best are not picked. Row 0, the fingers' end, is at the top."
            for world in WORLDS:
                yield from self._picture(f"tactile-{world}.png", f"Start, goal and after in the world {world}")

    def _refusals(self) -> Iterator[str]:
        strict = {(name.world, name.goal): self.rows(name) for name in _both(MAIN)}
        strict = {name: rows for name, rows in strict.items() if rows}
        if not strict:
            return
        head = ("world", "goal")
        yield "## Refusals"
        yield "Why the loop refused, trials per reason:"
        yield tables.refusals_table(strict, head)
        pairs: dict[Named, Rows] = {}
        for name in _both(MAIN):
            lenient = self.rows(TrialsName(MAIN, name.world, name.goal, handling="lenient"))
            if lenient:
                pairs[name.world, name.goal, "strict"] = _same(self.rows(name), lenient)
                pairs[name.world, name.goal, "lenient"] = lenient
        if pairs:
            yield (
                "What the refusals cost: the same trials when nothing but missing contact and dead fingers is refused "
                "(`lenient`)."
            )
            yield tables.grades_table(pairs, (*head, "refuses"))

    def _steps(self) -> Iterator[str]:
        conditions: dict[Named, Rows] = {}
        for goal in GOALS:
            one = self.rows(TrialsName(MAIN, "skin", goal, max_steps=1))
            for max_steps in (1, 5, 10):
                rows = _same(self.rows(TrialsName(MAIN, "skin", goal, max_steps=max_steps)), one)
                if rows:
                    conditions[goal, str(max_steps)] = rows
        if conditions:
            yield "## One step, five, ten"
            yield "The same trials in the world `skin` with other budgets; the first version of the paper has ten steps."
            yield tables.grades_table(conditions, ("goal", "steps"))
            yield tables.errors_table(conditions, ("goal", "steps"))

    def _unseen(self) -> Iterator[str]:
        names = [TrialsName(MAIN, world, goal, "unseen") for world in WORLDS for goal in GOALS]
        conditions = {(name.world, name.goal): rows for name in names if (rows := self.rows(name))}
        if conditions:
            reported = ", ".join(
                f"{100 * rate:.1f} % of {num} ({goal} goal)" for goal, (rate, num) in paper.UNSEEN.items()
            )
            yield "## Objects that were not trained"
            yield f"Sizes between the trained ones. The paper, hardware, other shapes, at 10 deg / 10 mm: {reported}."
            yield tables.grades_table(conditions, ("world", "goal"))
            yield tables.objects_table(conditions, ("world", "goal"))

    def _sizes(self, handling: Handling) -> Mapping[int, Mapping[str, Rows]]:
        """Grasps of the other world -> goal -> rows; 0 is the main refiner."""
        policies = {name.policy for name in self._cells if name.policy.startswith("tuned_")}
        sizes = {0: MAIN} | {int(policy.removeprefix("tuned_")): policy for policy in policies}
        found = {
            size: {goal: self.rows(TrialsName(sizes[size], "spheres", goal, handling=handling)) for goal in GOALS}
            for size in sorted(sizes)
        }
        return {size: goals for size, goals in found.items() if any(goals.values())}

    def _tuning(self) -> Iterator[str]:
        if len(self._sizes("strict")) < 2:
            return
        head = ("grasps", "goal", "refuses")
        conditions: dict[Named, Rows] = {
            (str(size), goal, handling): rows
            for handling in HANDLINGS
            for size, goals in self._sizes(handling).items()
            for goal, rows in goals.items()
            if rows
        }
        yield "## A little training in the other world"
        yield (
            "The main refiner, trained further on a few grasps of the world `spheres` (of all objects together), felt by "
            "random sensors like those of the trials, which are easier to come by here than on a robot. Grasps of the other "
            "world also tell the confidence check what is usual."
        )
        yield tables.grades_table(conditions, head)
        for handling in HANDLINGS:
            yield from self._picture(f"fine-tuning-{handling}.png", f"Success after fine-tuning, refusals {handling}")
        yield "<details><summary>Per class, and why it refused</summary>"
        yield tables.kinds_table(conditions, head)
        yield tables.refusals_table(conditions, head)
        yield "</details>"

    def _comparisons(self) -> Iterator[str]:
        shown = False
        for goal in GOALS:
            refiners = {name: rows for name in ENTRANTS if (rows := self.rows(compared(name, goal)))}
            if len(refiners) < 2:
                continue
            if not shown:
                yield "## What matters"
                yield (
                    f"Refiners on the same trials in the world `skin`. All but `{MAIN}` have the same budget of training; "
                    f"differences are to `{self.reference}`, trial by trial (Agresti-Min interval; p: McNemar's exact test, after "
                    "Holm's correction). Nothing but missing contact and dead fingers is refused, so that predictions are "
                    f"compared and not confidence checks. The paper: {100 * paper.DIRECT_RATE:.1f} % for the direct increment, "
                    f"{100 * paper.ABSOLUTE_RATE:.1f} % for the difference of two poses, in simulation; trials and grade are not "
                    "known to us."
                )
                shown = True
            yield f"### {goal.capitalize()} goal"
            yield tables.comparison_table(refiners, self.reference)

    def _disturbances(self) -> Iterator[str]:
        found = {world: rows for world in WORLDS if (rows := self.rows(DisturbanceName(MAIN, world)))}
        if not found:
            return
        num = {len(row["disturbances"]) for rows in found.values() for row in rows}
        yield "## Pushed again and again"
        yield (
            f"One goal per object; the object is pushed {' or '.join(map(str, sorted(num)))} times in a row, at random by up to "
            "half of the range of every motion that can be felt, and the hand refines after every push. What one refinement "
            "leaves is where the next push begins, so an error that is not repaired grows."
        )
        conditions: dict[Named, Rows] = {}
        for world, rows in found.items():
            conditions[world, "all"] = disturbances(rows)
            conditions |= {(world, kind): disturbances(mine) for kind, mine in by_kind(rows).items()}
        yield tables.grades_table(conditions, ("world", "class"))
        yield tables.errors_table(conditions, ("world", "class"))
        put_back = {world: sum(row["put_back"] for row in disturbances(rows)) for world, rows in found.items()}
        told = ", ".join(
            f"{count} of {len(disturbances(found[world]))} in `{world}`" for world, count in put_back.items()
        )
        yield f"Pushes before which the object had to be put back, since every other one would have left the hand: {told}."
        for world in found:
            yield from self._picture(
                f"disturbance-{world}.png",
                f"Error before and after every refinement, world {world}, one object per class",
            )

    def _faults(self) -> Iterator[str]:
        names = [name for name in self._cells if isinstance(name, TrialsName) and name.fault != "none"]
        names = [name for name in names if self.rows(name)]
        if not names:
            return
        whole = _same(self.rows(TrialsName(MAIN, "skin", "random")), self.rows(names[0]))
        conditions: dict[Named, Rows] = {("none", "strict"): whole} if whole else {}
        conditions |= {(name.fault, name.handling): self.rows(name) for name in _in_plan_order(names, self.planned)}
        config = self._cells[names[0]]["settings"]["protocol"]["refiner"]
        yield "## Faults"
        yield (
            "World `skin`, random goals; the fault comes between the goal and the start. `mask` blanks a finger that is found "
            "dead, `strict` refuses. `neither`: it ended outside the grade without a word. `other_object`: the goal was shown "
            "with another kind of object."
        )
        yield tables.faults_table(
            conditions, (1e3 * config["max_way_m"], round(math.degrees(config["max_way_rad"]), 3))
        )

    def _films(self, films: Sequence[str]) -> Iterator[str]:
        if films:
            yield "## Films"
            yield "\n".join(f"- [{name.removesuffix('.mp4')}]({self.folder}/{name})" for name in films)

    def _budget(self) -> Iterator[str]:
        trainings = [cell for cell in self.cells if cell["kind"] == "training" and cell["rows"]]
        if trainings:
            yield "## Trainings"
            yield "Errors of one prediction, without a loop, on held-out pairs of the refiner's own data."
            yield training_table(trainings)
        yield "## Cost"
        yield budget_table(self.cells)
        yield missing_table(self.planned, {str(name): len(cell["rows"]) for name, cell in self._cells.items()})


def _both(policy: str) -> list[TrialsName]:
    return [TrialsName(policy, world, goal) for world in WORLDS for goal in GOALS]


def _same(rows: Rows, chosen: Rows) -> list[Row]:
    """Those rows that are of the same trials as the chosen ones."""
    keys = {(row["object"], row["number"]) for row in chosen}
    return [row for row in rows if (row["object"], row["number"]) in keys]


def _in_plan_order(names: Iterable[TrialsName], planned: Mapping[str, int]) -> list[TrialsName]:
    order = {name: place for place, name in enumerate(planned)}
    return sorted(names, key=lambda name: (order.get(str(name), len(order)), str(name)))
