"""Which cells there are, in which order, at which cost, and which process runs them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cerebella.recipes.study_async.tables import table
from cerebella.recipes.study_cells import Cell
from cerebella.recipes.workcell_study.cells import Name, RetentionName, RolloutName, StreamName, TrainingName
from cerebella.recipes.workcell_study.names import DEFAULT, EXPERT, MODES, TRAININGS
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.trainings import brains, training_cost_s

CONTROL_HZ = 30.0
_TYPICAL_TICKS = 1050
"""Of an episode: between the expert's 28 s and a miss."""
_NUM_FAMILIES = 13


@dataclass(frozen=True)
class Cost:
    """CPU seconds, about: the size `micro`, three pictures of 96 px, one core.

    Args:
        tick: of simulation and pictures. inference: one chunk. blind_tick: simulation without pictures, and the expert.
        question: one answer. held_out: one held-out demonstration.
    """

    tick: float = 0.008
    inference: float = 0.04
    blind_tick: float = 0.003
    question: float = 0.05
    held_out: float = 7.5


COSTS = Cost()


def cells(study: StudyWorkcell) -> list[Name]:
    """All cells, the most important ones first: the claims at the first delay, then the other delays.

    Within a delay the shards of all conditions come in turn, so that a study that was cut off has the same episodes of each.
    """
    first, *later = study.delays
    found: list[Name] = [TrainingName(DEFAULT), *_rollouts(study, (DEFAULT,), first), *_retention(study, DEFAULT)]
    if study.stream_s:
        found += [StreamName(DEFAULT, first), StreamName(EXPERT, 0)]
    others = [name for name in study.trainings if name != DEFAULT]
    for training in others:
        found += [TrainingName(training), *_rollouts(study, (training,), first), *_retention(study, training)]
    for delay in later:
        found += _rollouts(study, study.trainings, delay)
    return found


def own_cells(study: StudyWorkcell) -> list[Name]:
    """The cells of this part."""
    return [name for name in cells(study) if owner(study, name) == study.part]


def owner(study: StudyWorkcell, name: Name) -> int:
    """The part that runs a cell: trainings in turn, shards in turn, questions (and what they need) all in the first."""
    if isinstance(name, TrainingName):
        return study.trainings.index(name.training) % study.num_parts
    if isinstance(name, RolloutName):
        return name.first // study.shard_size % study.num_parts
    return (name.training == EXPERT) % study.num_parts


def num_episodes(study: StudyWorkcell, name: RolloutName) -> int:
    """Of a shard."""
    return min(study.shard_size, study.episodes - name.first)


def cost_s(study: StudyWorkcell, name: Name) -> float:
    """CPU seconds that a cell is expected to take."""
    if isinstance(name, TrainingName):
        return training_cost_s(study, name.training)
    if isinstance(name, RetentionName):
        data_s = COSTS.held_out * study.held_out_episodes if (name.training, name.stage[0]) == (DEFAULT, "0") else 0.0
        return data_s + COSTS.question * study.questions * _NUM_FAMILIES
    if isinstance(name, StreamName):
        num_ticks, mode = study.stream_s * CONTROL_HZ, "prefix"
    else:
        num_ticks, mode = _TYPICAL_TICKS * num_episodes(study, name), name.mode
    if name.training == EXPERT:
        return num_ticks * COSTS.blind_tick
    cycle = study.execute_horizon(mode, name.delay) + (name.delay if mode == "sync" else 0)
    return num_ticks * (COSTS.tick + COSTS.inference / cycle)


def plan_table(study: StudyWorkcell, made: Sequence[Cell]) -> str:
    """Per training and kind: cells planned, run and dropped, CPU hours expected and measured."""
    there = {(cell["kind"], *cell["name"].values()): cell["cpu_s"] for cell in made}
    rows: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for name in cells(study):
        key = (name.kind, *vars(name).values())
        added = (1, cost_s(study, name), key in there, there.get(key, 0.0))
        for label in ((name.training, _what(name)), ("**all**", "")):
            rows[label] = [old + new for old, new in zip(rows[label], added, strict=True)]
    rows["**all**", ""] = rows.pop(("**all**", ""))
    lines = [
        [*label, f"{num:.0f}", f"{expected / 3600:.2f}", f"{run:.0f}", f"{used / 3600:.2f}", f"{num - run:.0f}"]
        for label, (num, expected, run, used) in rows.items()
    ]
    return table(["who", "what", "planned", "expected CPU h", "run", "CPU h", "dropped"], lines)


def left_out() -> str:
    """What is not planned, and why."""
    reasons = (
        ("`naive` without a delay", "is `prefix` without a prefix"),
        ("`sync` and `naive` of the variations", "their question is asked in `prefix`"),
        ("questions behind `pretrain_cerebellum`", "the brain rests there: its weights are those of the stage before"),
        ("questions behind `rtc`'s brain stage", "its brain is the default's"),
        ("more than one training seed", "the budget: differences between trainings hold for these trainings"),
    )
    return table(["not planned", "why"], reasons)


def _what(name: Name) -> str:
    if isinstance(name, RolloutName):
        return f"episodes, d = {name.delay}"
    return {"training": "training", "retention": "questions", "stream": "stream"}[name.kind]


def _rollouts(study: StudyWorkcell, trainings: Sequence[str], delay: int) -> Iterator[Name]:
    conditions: list[tuple[str, str]] = []
    if DEFAULT in trainings:
        conditions += [(DEFAULT, mode) for mode in MODES if mode in study.modes and (delay or mode != "naive")]
        conditions += [(EXPERT, EXPERT)] if delay == study.delays[0] else []
    conditions += [(training, "prefix") for training in trainings if training != DEFAULT]
    for first in range(0, study.episodes, study.shard_size):
        for training, mode in conditions:
            yield RolloutName(training, mode, 0 if training == EXPERT else delay, first)


def _retention(study: StudyWorkcell, training: str) -> Iterator[Name]:
    assert training in TRAININGS
    return (RetentionName(training, stage) for stage in brains(study, training) if study.questions)
