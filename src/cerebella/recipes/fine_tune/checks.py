"""What must hold before a run on one's own data begins; every mistake is one sentence."""

import math
from collections.abc import Sequence
from pathlib import Path

from cerebella.data.loader import OnFault
from cerebella.data.sources import Source
from cerebella.embodiment import read_json_object
from cerebella.evaluation.result import check_can_write
from cerebella.recipes.fine_tune.data_set import DataSet
from cerebella.recipes.fine_tune.options import FineTune
from cerebella.recipes.fine_tune.processors import spread
from cerebella.recipes.fine_tune.start import Start
from cerebella.training.parallel import World
from cerebella.types import Conversation

FACTS = "run.json"
"""In the directory of a run that is not finished: what must not change when it goes on."""
_WORST_RATIO = 0.25


def check_out(out: Path, world: World) -> None:
    """Raise a ValueError unless a policy can be written there, and none is finished there."""
    if out == Path():
        raise ValueError("--out is empty: name a directory for the policy")
    if (out / "config.json").is_file() and not (out / "run" / FACTS).is_file():
        raise ValueError(f"{out} holds a finished policy; choose another --out, or delete it")
    if world.is_main:
        check_can_write(out / "config.json")


def num_lanes(options: FineTune, world: World) -> int:
    """Shares of a batch. A run that was begun keeps its number, so that it may go on with fewer processes.

    Raises:
        ValueError: the batch does not divide into them, or they into the processes and micro-batches.
    """
    if options.num_micro_batches < 1:
        raise ValueError(f"--num-micro-batches must be 1 or more; got {options.num_micro_batches}")
    parts = world.size * options.num_micro_batches
    begun = options.out / "run" / FACTS
    lanes = int(read_json_object(begun)["num_lanes"]) if begun.is_file() else parts
    if lanes % parts:
        raise ValueError(
            f"the run in {begun.parent} was begun with {lanes} processes x micro-batches; {world.size} x "
            f"{options.num_micro_batches} do not divide them"
        )
    if options.batch_size < 1 or options.batch_size % lanes:
        raise ValueError(f"--batch-size {options.batch_size} must be a multiple of {lanes} (processes x micro-batches)")
    return lanes


def num_conversations(options: FineTune, lanes: int) -> int:
    """Conversations per step: whole rows, as many in every lane, so that each step has the ratio that is recorded.

    Raises:
        ValueError: a ratio without conversations or the other way round, or one that this batch misses by a quarter.
    """
    ratio = options.vl_ratio
    if not options.conversations:
        if ratio is not None:
            raise ValueError(f"--vl-ratio {ratio:g} needs --conversations, a file of vision-language data")
        return 0
    if ratio is None or not (math.isfinite(ratio) and ratio > 0):
        raise ValueError(
            f"--conversations needs --vl-ratio above 0: conversations per robot window, e.g. 0.1667 (the paper's); got {ratio}"
        )
    num = lanes * max(1, round(options.batch_size * ratio / lanes))
    if abs(num / options.batch_size - ratio) > _WORST_RATIO * ratio:
        raise ValueError(
            f"--vl-ratio {ratio:g} and --batch-size {options.batch_size} come to {options.batch_size * ratio:.2f} conversations "
            f"a step, which {lanes} processes x micro-batches cannot share evenly; a multiple of "
            f"{math.ceil(lanes / min(ratio, 1))} windows can"
        )
    return num


def check_pictures(sets: Sequence[DataSet], talk: Sequence[Source], start: Start, on_fault: OnFault) -> None:
    """Raise a ValueError for pictures that are taken as they are and do not fit the vision tower.

    Of conversations, the first one is looked at.
    """
    sizes = [(one.source.name, view, size) for one in sets for view, size in one.picture_sizes.items()]
    for source in talk:
        for record in spread(source, 1, on_fault):
            images = record.images if isinstance(record, Conversation) else ()
            sizes += [(source.name, "a conversation", (image.shape[0], image.shape[1])) for image in images]
    factor = start.images.factor
    for name, view, (height, width) in sizes:
        if start.images.max_pixels is None and (height % factor or width % factor):
            raise ValueError(
                f"{name}: pictures of {view} are {height} x {width} px; {start.source} takes them as they are, with sides "
                f"that are multiples of {factor} px. --max-pixels 90000 has them fitted"
            )


def check_actions(sets: Sequence[DataSet]) -> None:
    """Raise a ValueError for a command of a robot that none of its data sets records."""
    for group in dict.fromkeys(one.group for one in sets):
        of_robot = [one for one in sets if one.group == group]
        for name in of_robot[0].missing_actions:
            if all(name in one.missing_actions for one in of_robot):
                raise ValueError(
                    f"{', '.join(one.source.name for one in of_robot)}: no column holds the action {name!r} of "
                    f"{'/'.join(group)}, so the policy would never move it. Say where it is with --rename {name}=NAME or --map"
                )
