"""Demonstrations of a workcell task as a LeRobotDataset v3.0, made by processes side by side, in the order of their seeds.

What lies where: `workcell_set`; until the end also `generation/`, attempts that are not part of the set yet.

A kill at any moment loses nothing that was finished: an attempt is a directory that appears whole, a line of attempts.jsonl is
written before its episode is added, and whichever of the two is missing is done by the next run. Which seeds are tried, and
what they give, depends on neither the number of processes nor on interruptions.
"""

import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from cerebella.data.lerobot_files import replace_file, write_json_file
from cerebella.data.lerobot_info import INFO
from cerebella.data.lerobot_recording import RECORDING, EpisodeRows, read_staged
from cerebella.data.lerobot_writer import LeRobotWriter
from cerebella.embodiment import read_json_object
from cerebella.envs.workcell.task import WorkcellTask
from cerebella.recipes.workcell_attempt import (
    CODECS,
    Attempt,
    Demonstrator,
    GenerationSettings,
    attempt_file,
    recording_directory,
)
from cerebella.recipes.workcell_companion import Companion, write_companion
from cerebella.recipes.workcell_set import ATTEMPTS, EMBODIMENT, SENT, SETTINGS, TRUTH, landmarks_file, truth_file
from cerebella.recipes.worker_process import end_with_parent

_WORK = "generation"
_AHEAD = 4
"""Attempts per process that may wait for one with a lower seed."""
_PATIENCE, _MIN_SHARE = 20, 0.1
"""After so many attempts, give up when a smaller share of them is kept."""


@dataclass(frozen=True)
class Generated:
    """What a set holds now.

    Args:
        attempts: all of them, in the order of seeds. companion: None without questions.
    """

    num_episodes: int
    num_frames: int
    attempts: tuple[Attempt, ...]
    companion: Companion | None

    @property
    def failed(self) -> tuple[Attempt, ...]:
        """Those without success."""
        return tuple(attempt for attempt in self.attempts if not attempt.is_success)


def generate(
    task: WorkcellTask[Any],
    directory: Path,
    num_episodes: int,
    settings: GenerationSettings | None = None,
    num_processes: int = 1,
) -> Generated:
    """Fill a directory with `num_episodes` demonstrations, or go on with one that holds fewer.

    Args:
        task: travels to the processes by pickle. directory: does not exist yet, is empty, or holds such a set.

    Raises:
        ValueError: the directory holds something else, or demonstrations of another task or with other settings.
            Or the expert fails almost always.
    """
    if num_episodes < 1 or num_processes < 1:
        raise ValueError(f"num_episodes and num_processes must be 1 or more; got {num_episodes}, {num_processes}")
    chosen = settings or GenerationSettings()
    demonstrator = Demonstrator(task, chosen, directory / _WORK)
    try:
        with _opened(directory, task, chosen, demonstrator) as writer:
            attempts = _reconciled(directory, writer)
            seeds = iter(range(attempts[-1].seed + 1 if attempts else chosen.first_seed, 2**31))
            with tqdm(total=num_episodes, initial=writer.num_episodes, desc=task.name, unit="episode") as bar:
                for attempt in _played(task, chosen, demonstrator, seeds, writer, num_episodes, num_processes):
                    _commit(directory, writer, attempt)
                    attempts.append(attempt)
                    bar.update(attempt.is_kept)
                    bar.set_postfix(failed=sum(not a.is_success for a in attempts))
                    _check_share(attempts)
    finally:
        demonstrator.close()
    shutil.rmtree(directory / _WORK, ignore_errors=True)
    companion = write_companion(directory) if chosen.moment_every_s else None
    return Generated(writer.num_episodes, writer.num_frames, tuple(attempts), companion)


def read_attempts(directory: Path) -> list[Attempt]:
    """Every seed that was tried for a set, in order. A last line that a kill cut short does not count."""
    path = directory / ATTEMPTS
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Attempt.from_line(line) for line in lines[:-1]]


def _opened(
    directory: Path, task: WorkcellTask[Any], settings: GenerationSettings, demonstrator: Demonstrator
) -> LeRobotWriter:
    """A new set, or the one that is there."""
    wanted = {"task": task.name, **asdict(settings)}
    encoding = CODECS[settings.codec]
    if (directory / SETTINGS).is_file():
        found = {**asdict(GenerationSettings()), **read_json_object(directory / SETTINGS)}  # what is newer than the set
        if differing := [name for name in wanted if found.get(name) != wanted[name]]:
            name = differing[0]
            raise ValueError(
                f"{directory} was begun with {name} {found.get(name)!r}; it cannot go on with {wanted[name]!r}"
            )
        return LeRobotWriter.resume(directory, encoding)
    if (directory / INFO).is_file():
        raise ValueError(f"{directory} holds a set that was not generated here; choose another directory")
    robot = demonstrator.embodiment
    writer = LeRobotWriter(directory, settings.fps, demonstrator.features, robot.name, encoding)
    robot.save(directory / EMBODIMENT)
    write_json_file(directory / SETTINGS, wanted)
    return writer


def _reconciled(directory: Path, writer: LeRobotWriter) -> list[Attempt]:
    """The attempts so far, after a kill: one whose episode was not added yet is taken back, and comes again."""
    attempts = read_attempts(directory)
    num_kept = sum(attempt.is_kept for attempt in attempts)
    if num_kept > writer.num_episodes:
        attempts.pop()
        num_kept -= 1
    if num_kept != writer.num_episodes:
        raise ValueError(f"{directory} has {writer.num_episodes} episodes, but {ATTEMPTS} says {num_kept}")
    text = "".join(attempt.line() + "\n" for attempt in attempts)
    replace_file(directory / ATTEMPTS, lambda partial: partial.write_text(text, encoding="utf-8"))
    _tidy(directory, [attempt.seed for attempt in attempts])
    return attempts


def _commit(directory: Path, writer: LeRobotWriter, attempt: Attempt) -> None:
    """Write it down, then add its episode."""
    work, index = directory / _WORK, writer.num_episodes
    for file_of in (truth_file, landmarks_file):
        if attempt.is_kept and (found := file_of(work, attempt.seed)).is_file():
            (directory / TRUTH).mkdir(exist_ok=True)
            shutil.copyfile(found, file_of(directory / TRUTH, index))
    with (directory / ATTEMPTS).open("a", encoding="utf-8") as file:
        file.write(attempt.line() + "\n")
        file.flush()
        os.fsync(file.fileno())
    if attempt.is_kept:
        rows, videos = _episode(work, attempt)
        writer.add_episode(rows, videos)
    if not any((directory / RECORDING).glob("episode-*")):  # all is sealed: no video is needed any more
        _tidy(directory, [attempt.seed])


def _episode(work: Path, attempt: Attempt) -> tuple[EpisodeRows, dict[str, Path]]:
    """A recorded attempt, as `LeRobotWriter.add_episode` takes it."""
    staged = read_staged(recording_directory(work, attempt.seed))
    table = pq.read_table(staged.data)
    numbers = [name for name in ("observation.state", "action", SENT) if name in table.column_names]
    columns = {name: np.array(table.column(name).to_pylist(), dtype=np.float32) for name in numbers}
    timestamps = table.column("timestamp").to_numpy().astype(np.float32)
    pictures = {name: summary for name, summary in staged.stats.items() if staged.video(name).is_file()}
    rows = EpisodeRows(columns, timestamps, [attempt.prompt] * staged.length, pictures)
    return rows, {name: staged.video(name) for name in pictures}


def _tidy(directory: Path, seeds: Sequence[int]) -> None:
    """Remove what is part of the set."""
    work = directory / _WORK
    for seed in seeds:
        shutil.rmtree(recording_directory(work, seed), ignore_errors=True)
        truth_file(work, seed).unlink(missing_ok=True)
        landmarks_file(work, seed).unlink(missing_ok=True)
        attempt_file(work, seed).unlink(missing_ok=True)


def _check_share(attempts: Sequence[Attempt]) -> None:
    num_kept = sum(attempt.is_kept for attempt in attempts)
    if len(attempts) >= _PATIENCE and num_kept < _MIN_SHARE * len(attempts):
        raise ValueError(
            f"only {num_kept} of {len(attempts)} attempts were kept; the last one ended with {attempts[-1].reason!r}"
        )


def _played(
    task: WorkcellTask[Any],
    settings: GenerationSettings,
    demonstrator: Demonstrator,
    seeds: Iterator[int],
    writer: LeRobotWriter,
    num_episodes: int,
    num_processes: int,
) -> Iterator[Attempt]:
    """Attempts in the order of their seeds until the set is full; never more of them than may be needed."""
    if num_processes == 1:
        while writer.num_episodes < num_episodes:
            yield demonstrator.attempt(next(seeds))
        return
    work = writer.directory / _WORK
    waiting: deque[Future[Attempt]] = deque()
    with ProcessPoolExecutor(
        num_processes, get_context("spawn"), initializer=_begin_process, initargs=(task, settings, work)
    ) as pool:
        try:
            while (missing := num_episodes - writer.num_episodes) > 0:
                while len(waiting) < min(missing, _AHEAD * num_processes):
                    waiting.append(pool.submit(_attempt, next(seeds)))
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_demonstrator: Demonstrator | None = None
"""Of a worker process."""


def _begin_process(task: WorkcellTask[Any], settings: GenerationSettings, work: Path) -> None:
    global _demonstrator
    _demonstrator = Demonstrator(task, settings, work)
    end_with_parent()


def _attempt(seed: int) -> Attempt:
    assert _demonstrator is not None
    return _demonstrator.attempt(seed)
