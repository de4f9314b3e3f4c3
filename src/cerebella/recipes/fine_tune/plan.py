"""From options to a run that can be begun: everything is opened and checked, nothing is computed or written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.sent_rows import SentRows
from cerebella.data.sources import Source
from cerebella.embodiment import Embodiment, read_json_object
from cerebella.processing.actions import action_slots, state_slots
from cerebella.recipes.fine_tune.checks import (
    FACTS,
    check_actions,
    check_out,
    check_pictures,
    num_conversations,
    num_lanes,
)
from cerebella.recipes.fine_tune.data_set import DataSet
from cerebella.recipes.fine_tune.data_sets import open_conversations, open_sets
from cerebella.recipes.fine_tune.options import FineTune, PosttrainAsync
from cerebella.recipes.fine_tune.start import Start
from cerebella.recipes.fine_tune.start_reading import read_start
from cerebella.training.parallel import World
from cerebella.training.stages import Stage


@dataclass(frozen=True, eq=False)
class Plan:
    """A run that has been checked and not begun.

    Args:
        sets, talk: data sets and vision-language sources. spec: their mixture. stage: with its numbers of rows.
    """

    options: FineTune
    start: Start
    sets: Sequence[DataSet]
    talk: Sequence[Source]
    stage: Stage
    spec: MixtureSpec
    world: World

    @property
    def mixture(self) -> Mixture:
        """The mixture at this stage's batch."""
        return Mixture(self.spec, self.stage.batch_size + self.stage.num_conversations)


def make_plan(options: FineTune, world: World) -> Plan:
    """Open and check everything.

    Raises:
        FileNotFoundError, DataFault, ValueError: see `run.fine_tune`.
    """
    check_out(options.out, world)
    start = read_start(options)
    lanes = num_lanes(options, world)
    conversations = num_conversations(options, lanes)
    stage = options.stage(conversations, has_new_brain=start.kind == "preset")
    if stage.max_prefix >= start.config.horizon:
        raise ValueError(
            f"--max-prefix {stage.max_prefix} must be below the horizon of {start.config.horizon} rows: an action prefix never "
            "fills a chunk"
        )
    robots = _robots(options, start)
    for robot in robots:
        action_slots(robot, start.config.action_dim)
        state_slots(robot, start.config.state_dim)
    sets = open_sets(options, robots, start.config.horizon, lanes, _sent_rows(options, stage))
    talk = open_conversations(options.conversations, sets)
    check_pictures(sets, talk, start, options.on_fault)
    check_actions(sets)
    if options.weights and len(options.weights) != len(sets):
        raise ValueError(f"--weights takes one number for each of {len(sets)} data sets; got {len(options.weights)}")
    spec = MixtureSpec(
        sources=(*(one.source for one in sets), *talk),
        weights=(*options.weights, *(len(source.windows) for source in talk)) if options.weights else None,
        vl_ratio=conversations / options.batch_size if talk else None,
        seed=options.seed,
        num_lanes=lanes,
        shuffle_windows=options.shuffle_windows,
    )
    return Plan(_with_statistics(options, start, sets), start, sets, talk, stage, spec, world)


def claim(plan: Plan) -> None:
    """Write down what the run is; by the one process that writes.

    Raises:
        ValueError: another run was begun in the same place; says what differs.
    """
    path = plan.options.out / "run" / FACTS
    ours = json.loads(json.dumps(_facts(plan)))
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(ours, indent=1) + "\n")
        partial.rename(path)
        return
    theirs = read_json_object(path)
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{path.parent} holds a run that was begun otherwise: {_difference(name, theirs.get(name), value)}. Choose "
                "another --out, or delete that directory"
            )


def _facts(plan: Plan) -> dict[str, Any]:
    """What must not change when a run goes on; the rest of the stage and precision are the checkpoints' own business."""
    config = plan.start.config
    return {
        "recipe": plan.options.recipe,
        "start": plan.start.source,
        "horizon": config.horizon,
        "attention rule": [config.mask_variant, config.mask_window, config.position_offset],
        "statistics": plan.options.statistics,
        "max_pixels": plan.start.images.max_pixels,
        "sent": [plan.options.sent_column, _sent_share(plan.options)],
        "seed": plan.options.seed,
        "batch_size": plan.stage.batch_size,
        "num_conversations": plan.stage.num_conversations,
        "shuffle_windows": plan.options.shuffle_windows,
        "num_lanes": plan.spec.num_lanes,
        "robots": {"/".join(one.group): asdict(one.embodiment) for one in plan.sets},
        "data": {one.source.name: one.sizes for one in plan.sets},
        "shares": plan.mixture.shares.round(6).tolist(),
        "mixture": plan.mixture.fingerprint,
    }


def _difference(name: str, theirs: Any, ours: Any) -> str:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        key = next(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
        return _difference(f"{name}.{key}", theirs.get(key), ours.get(key))
    return f"{name} is {json.dumps(theirs)[:200]} there and {json.dumps(ours)[:200]} here"


def _sent_rows(options: FineTune, stage: Stage) -> SentRows | None:
    """How windows use what was sent: all begin the way back there, and those behind a prefix may have it from there."""
    if not options.sent_column:
        return None
    return SentRows(stage.max_prefix, _sent_share(options), seed=options.seed)


def _sent_share(options: FineTune) -> float:
    return options.sent_share if isinstance(options, PosttrainAsync) and options.sent_column else 0.0


def _with_statistics(options: FineTune, start: Start, sets: Sequence[DataSet]) -> FineTune:
    """`--statistics auto` as what it comes to."""
    if options.statistics != "auto":
        return options
    knows_all = all(start.has_statistics(one.embodiment) for one in sets)
    return replace(options, statistics="keep" if knows_all else "measure")


def _robots(options: FineTune, start: Start) -> list[Embodiment]:
    """The robot of every data set."""
    num = len(options.data)
    if options.embodiment:
        if len(options.embodiment) not in (1, num):
            raise ValueError(
                f"--embodiment takes one file, or one for each of {num} data sets; got {len(options.embodiment)}"
            )
        loaded = [Embodiment.load(path) for path in options.embodiment]
        return loaded if len(loaded) == num else loaded * num
    robot = options.own_robot() or start.embodiment
    if robot is None:
        raise ValueError(
            f"{options.start} does not say what the numbers of your robot mean: give --embodiment FILE (what `Embodiment.save` "
            "writes)"
        )
    return [robot] * num
