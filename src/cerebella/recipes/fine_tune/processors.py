"""The processors of a run: a tokenizer, and statistics for every robot, made once and kept in the run's directory."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch.distributed as dist
from tqdm import tqdm
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.data.episodes import DataFault
from cerebella.data.loader import OnFault
from cerebella.data.sources import RobotGroup, Source
from cerebella.policies.stored import read_tokenizer
from cerebella.processing.measure import measure_sources
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.fine_tune.data_set import DataSet
from cerebella.recipes.fine_tune.start import Start
from cerebella.training.parallel import World
from cerebella.training.sources import TrainingBatch
from cerebella.types import Conversation, Sample

_NUM_CONVERSATIONS = 2048
_HELD_OUT_WINDOWS = 32


def once(path: Path, world: World, make: Callable[[], None]) -> None:
    """Let one process `make` what lies at `path`, unless it is there already; the others wait."""
    if world.is_main and not path.exists():
        make()
    if world.size > 1:
        dist.barrier()


def get_tokenizer(
    start: Start,
    sets: Sequence[DataSet],
    conversations: Sequence[Source],
    on_fault: OnFault,
    directory: Path,
    world: World,
) -> Qwen2Tokenizer:
    """The start's; where it has none, one that is trained on the run's prompts and conversations (`tokenizer/`).

    Raises:
        DataFault: a conversation cannot be read (with `raise`).
    """
    if start.tokenizer is not None:
        return start.tokenizer
    folder = directory / "tokenizer"

    def make() -> None:
        texts = [robot_prompt(one.embodiment.views, prompt) for one in sets for prompt in one.prompts]
        for source in conversations:
            records = spread(source, _NUM_CONVERSATIONS, on_fault)
            texts += [text for each in records if isinstance(each, Conversation) for _, text in each.turns]
        trained = train_tokenizer(texts, vocab_size=start.config.brain["text_config"]["vocab_size"])
        partial = directory / "tokenizer.new"
        trained.save_pretrained(partial)
        partial.rename(folder)

    once(folder, world, make)
    return read_tokenizer(folder, start.config)


def get_statistics(
    start: Start,
    sets: Sequence[DataSet],
    keep: bool,
    directory: Path,
    world: World,
    show_progress: bool,
) -> dict[RobotGroup, Statistics]:
    """Of every robot of the run: the start's, or measured. Measured ones lie in `statistics-ROBOT-MODE.json` and are not measured twice.

    Raises:
        DataFault: an episode cannot be read. ValueError: the start has none to keep.
    """
    robots = {one.group: one.embodiment for one in sets}
    if keep:
        return {group: start.statistics(robot) for group, robot in robots.items()}
    found: dict[RobotGroup, Statistics] = {}
    for group in robots:
        path = directory / f"statistics-{group.robot_type}-{group.control_mode}.json"
        sources = [one.motion for one in sets if one.group == group]

        def make(group: RobotGroup = group, path: Path = path, sources: Sequence = sources) -> None:
            total = sum(len(source.windows) for source in sources)
            with tqdm(total=total, desc=f"statistics of {group.robot_type}", disable=not show_progress) as bar:
                measured = measure_sources(sources, bar.update)
            if start.takes_raw_states:
                raw = np.zeros_like(measured.state_mean), np.ones_like(measured.state_std)
                measured = replace(measured, state_mean=raw[0], state_std=raw[1])
            if not measured.is_active.any():
                raise ValueError(
                    f"no action of {'/'.join(group)} ever changes in these data: there is nothing to learn"
                )
            partial = path.with_suffix(".new")
            measured.save(partial)
            partial.rename(path)

        once(path, world, make)
        found[group] = Statistics.load(path, *group)
    return found


def make_processors(
    start: Start, sets: Sequence[DataSet], tokenizer: Qwen2Tokenizer, statistics: dict[RobotGroup, Statistics]
) -> dict[RobotGroup, Processor]:
    """One for each robot. Where a set lacks a camera, its rows come without."""
    config = start.config
    return {
        group: Processor(
            embodiment=next(one.embodiment for one in sets if one.group == group),
            statistics=statistics[group],
            tokenizer=tokenizer,
            images=start.images,
            horizon=config.horizon,
            model_state_dim=config.state_dim,
            model_action_dim=config.action_dim,
            allow_missing_views=any(one.missing_views for one in sets if one.group == group),
        )
        for group in statistics
    }


def held_out_batches(
    sets: Sequence[DataSet], processors: dict[RobotGroup, Processor], on_fault: OnFault
) -> list[TrainingBatch]:
    """For each set with held-out episodes, some of their windows, evenly spread.

    Raises:
        DataFault: one cannot be read (with `raise`).
    """
    batches: list[TrainingBatch] = []
    for one in sets:
        if one.held_out is not None:
            records = spread(one.held_out, _HELD_OUT_WINDOWS, on_fault)
            rows = [record for record in records if isinstance(record, Sample)]
            if rows:
                batches.append(TrainingBatch(robot=processors[one.group].encode_samples(rows)))
    return batches


def save_other_robots(directory: Path, processors: Sequence[Processor]) -> None:
    """Add what a policy directory needs to know about further robots of its training.

    Their statistics go into `statistics.json`, what their numbers mean into `embodiment-ROBOT-MODE.json`.
    """
    path = directory / "statistics.json"
    entries = json.loads(path.read_text())
    for processor in processors:
        robot = processor.embodiment
        robot.save(directory / f"embodiment-{robot.name}-{robot.control_mode}.json")
        processor.statistics.save(path)
        entries |= json.loads(path.read_text())
    path.write_text(json.dumps(entries) + "\n")


def spread(source: Source, num: int, on_fault: OnFault) -> Iterator[Sample | Conversation]:
    """At most `num` of a source's records, evenly spread; with `skip` without those that cannot be read."""
    total = len(source.windows)
    for index in np.unique(np.linspace(0, total - 1, min(total, num)).astype(np.int64)):
        for run in source.windows.runs([int(index)]):
            try:
                yield from source.read(run)
            except DataFault:
                if on_fault == "raise":
                    raise
