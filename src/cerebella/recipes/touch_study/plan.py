"""Which cells, in which order, at which cost, and who does them.

The order is that of what one learns: the main result in both worlds, what limits it (refusals, steps, objects that were not
trained), faults and disturbances, then fine-tuning, then the comparisons in the order of `policies.ENTRANTS`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cerebella.recipes.touch_study.cells import (
    FORMAT,
    DisturbanceName,
    ExampleName,
    Name,
    TrainingName,
    TrialsName,
    path_of,
)
from cerebella.recipes.touch_study.policies import DIRECT, MAIN, entrant, tuned
from cerebella.recipes.touch_study.protocol import FAULTS, GoalKind, World
from cerebella.recipes.touch_study.study import TouchStudy
from cerebella.touch.grasp import FINGERS
from cerebella.touch.objects import KINDS, shape_of

GOALS: tuple[GoalKind, ...] = ("fixed", "random")
WORLDS: tuple[World, ...] = ("skin", "spheres")


@dataclass(frozen=True)
class Costs:
    """CPU seconds on one thread, measured on a few.

    Args:
        step: of training, 256 pairs of the default width. grasp: in each world. hand: a new hand in each world.
        decision: everything but the grasp, per step of the loop. neighbours: the same, where a bank is searched.
    """

    step: float = 0.23
    grasp: tuple[float, float] = (0.009, 0.13)
    hand: tuple[float, float] = (0.012, 0.09)
    decision: float = 0.006
    neighbours: float = 0.03


COSTS = Costs()
_MEAN_GRASPS, _REFUSED_GRASPS = 5.5, 2.0
"""Of a trial: goal, start and moves; of one that is refused at once."""


@dataclass(frozen=True)
class Work:
    """One cell of the plan: its `name`, its units (an object and a number each), and its expected CPU seconds."""

    name: Name
    units: tuple[tuple[str, int], ...]
    cost_s: float


def compared(policy: str, goal: GoalKind) -> TrialsName:
    """The condition in which refiners are compared: their predictions, whatever their confidence checks think of them."""
    return TrialsName(policy, "skin", goal, handling="lenient")


def works(study: TouchStudy) -> list[Work]:
    """The whole plan in its order, whatever `part`."""
    return [Work(name, units, _cost_s(study, name, len(units))) for name, units in _cells(study) if units]


def own_works(study: TouchStudy) -> list[Work]:
    """Those of `study.part`: cells that need each other stay together, and each group goes to the part with least to do."""
    groups: dict[str, list[Work]] = {}
    for work in works(study):
        groups.setdefault(_group(study, work.name), []).append(work)
    loads = [0.0] * study.num_parts
    mine: list[Work] = []
    for group in groups.values():
        part = loads.index(min(loads))
        loads[part] += sum(work.cost_s for work in group)
        mine += group if part == study.part else []
    return mine


def table(study: TouchStudy) -> str:
    """What there is to run, as Markdown: cell, rows planned and done, expected and measured CPU minutes."""
    owner = {
        work.name: part
        for part in range(study.num_parts)
        for work in own_works(replace(study, part=part))
    }  # fmt: skip
    lines = ["| | cell | part | rows | done | expected CPU min | CPU min |", "|---|---|---|---|---|---|---|"]
    totals = [0.0, 0.0]
    for number, work in enumerate(works(study), start=1):
        path = path_of(study.cells, work.name)
        cell = FORMAT.read(path) if path.is_file() else {"rows": [], "cpu_s": 0.0}
        totals = [totals[0] + work.cost_s, totals[1] + cell["cpu_s"]]
        lines.append(
            f"| {number} | `{work.name}` | {owner[work.name]} | {len(work.units)} | {len(cell['rows'])} | "
            f"{work.cost_s / 60:.1f} | {cell['cpu_s'] / 60:.1f} |"
        )
    lines.append(f"| | **all** | | | | **{totals[0] / 60:.0f}** | **{totals[1] / 60:.1f}** |")
    return "\n".join(lines) + "\n"


def _cells(study: TouchStudy) -> Iterator[tuple[Name, tuple[tuple[str, int], ...]]]:
    seen, unseen = study.objects, study.unseen
    if MAIN in study.refiners:
        yield from _training(study, MAIN)
        for world, num in zip(WORLDS, (study.trials, study.sphere_trials), strict=True):
            for goal in GOALS:
                yield TrialsName(MAIN, world, goal), _units(seen, num)
        for world in WORLDS:
            yield ExampleName(MAIN, world), _examples(study)
        for world, num in zip(WORLDS, (study.ablation_trials, study.sphere_trials), strict=True):
            for goal in GOALS:
                yield TrialsName(MAIN, world, goal, handling="lenient"), _units(seen, num)
        for world in WORLDS:
            for goal in GOALS:
                num = min(study.unseen_trials, study.sphere_trials) if world == "spheres" else study.unseen_trials
                yield TrialsName(MAIN, world, goal, "unseen"), _units(unseen, num)
        for max_steps in (1, 10):
            for goal in GOALS:
                yield TrialsName(MAIN, "skin", goal, max_steps=max_steps), _units(seen, study.ablation_trials)
        yield from _faults(study)
        for world in WORLDS:
            yield DisturbanceName(MAIN, world), _units(seen, 1 if study.num_disturbances else 0)
        for size in study.tuned_sizes:
            yield TrainingName(tuned(size)), (("", 0),)
            for handling in ("strict", "lenient"):
                for goal in GOALS:
                    name = TrialsName(tuned(size), "spheres", goal, handling=handling)
                    yield name, _units(seen, study.sphere_trials)
    for name in _ablations(study):
        yield from _training(study, name)
        for goal in GOALS:
            yield compared(name, goal), _units(seen, study.ablation_trials)


def _ablations(study: TouchStudy) -> Iterator[str]:
    for name in study.refiners:
        if name != MAIN and not (name == DIRECT and study.reference == MAIN):
            yield name


def _training(study: TouchStudy, policy: str) -> Iterator[tuple[Name, tuple[tuple[str, int], ...]]]:
    is_given = policy == MAIN and study.refiner is not None
    if not is_given and entrant(policy).kind != "neighbours":
        yield TrainingName(policy), (("", 0),)


def _faults(study: TouchStudy) -> Iterator[tuple[Name, tuple[tuple[str, int], ...]]]:
    units = _units(study.objects, study.fault_trials)
    for fault in FAULTS:
        if fault != "none":
            yield TrialsName(MAIN, "skin", "random", fault=fault), units
    for finger in FINGERS[1:]:
        yield TrialsName(MAIN, "skin", "random", handling="mask", fault=f"dead_{finger}"), units


def _units(objects: Sequence[str], num: int) -> tuple[tuple[str, int], ...]:
    """Every object once, then again: a cell that was cut off has as many of each."""
    return tuple((name, number) for number in range(num) for name in objects)


def _examples(study: TouchStudy) -> tuple[tuple[str, int], ...]:
    """The middle object of every class."""
    by_kind = {kind: [name for name in study.objects if shape_of(name).kind == kind] for kind in KINDS}
    return tuple((names[len(names) // 2], 0) for names in by_kind.values() if names)


def _group(study: TouchStudy, name: Name) -> str:
    """Cells of one group need the same training."""
    if entrant(name.policy).kind == "tuned":
        return name.policy if study.refiner is not None else MAIN
    if name.policy == MAIN and study.refiner is not None:
        return str(name)
    return name.policy


def _cost_s(study: TouchStudy, name: Name, num: int) -> float:
    kind = entrant(name.policy).kind
    if isinstance(name, TrainingName):
        num_steps = {"main": study.num_steps, "tuned": study.tune_steps}.get(kind, study.ablation_steps)
        return COSTS.step * num_steps * study.batch_size / 256
    world = WORLDS.index(name.world)
    decision = COSTS.neighbours if kind == "neighbours" else COSTS.decision
    num_grasps = _MEAN_GRASPS
    if isinstance(name, DisturbanceName):
        return num * (COSTS.hand[world] + study.num_disturbances * num_grasps * (COSTS.grasp[world] + decision))
    if isinstance(name, TrialsName) and name.fault != "none" and name.handling == "strict":
        num_grasps = _REFUSED_GRASPS
    return num * (COSTS.hand[world] + num_grasps * (COSTS.grasp[world] + decision))
