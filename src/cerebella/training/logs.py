"""What a run writes down: `curves.jsonl` always, a progress line, and TensorBoard, W&B or trackio when asked for."""

import importlib
import importlib.util
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from tqdm import tqdm

from cerebella.training.choice_objective import collapse_message
from cerebella.training.stages import Stage

LogName = Literal["tensorboard", "wandb", "trackio"]
LOG_NAMES: tuple[str, ...] = get_args(LogName)
CURVES, VALIDATION = "curves.jsonl", "validation.jsonl"
_LOG = logging.getLogger(__name__)


class Log(Protocol):
    """Takes numbers and pictures of a run."""

    def numbers(self, row: Mapping[str, float], step: int) -> None:
        """Named numbers at one step, counted over all stages."""
        ...

    def picture(self, name: str, path: Path, step: int) -> None:
        """A PNG file."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Event files under `<directory>/tensorboard`."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(directory / "tensorboard"))

    def numbers(self, row: Mapping[str, float], step: int) -> None:
        """See `Log`."""
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Log`."""
        from PIL import Image

        self.writer.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """See `Log`."""
        self.writer.close()


class Tracker:
    """W&B, or trackio, which has the same functions; settings come from its own environment variables."""

    def __init__(self, module: str, directory: Path, settings: Mapping[str, Any]) -> None:
        self.module: Any = importlib.import_module(module)
        self.run = self.module.init(project="cerebella", name=directory.name, config=dict(settings))

    def numbers(self, row: Mapping[str, float], step: int) -> None:
        """See `Log`."""
        self.run.log(dict(row), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Log`."""
        self.run.log({name: self.module.Image(str(path))}, step=step)

    def close(self) -> None:
        """See `Log`."""
        self.run.finish()


def open_logs(names: Sequence[LogName], directory: Path, settings: Mapping[str, Any]) -> list[Log]:
    """The logs that were asked for.

    Raises:
        ValueError: an unknown one, or one whose package is not installed.
    """
    logs: list[Log] = []
    for name in names:
        if name not in LOG_NAMES:
            raise ValueError(f"unknown log {name!r}; known logs: {', '.join(LOG_NAMES)} ({CURVES} is always written)")
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"the log {name!r} needs the package {name}: pip install {name}")
        logs.append(TensorBoard(directory) if name == "tensorboard" else Tracker(name, directory, settings))
    return logs


class Curve:
    """Progress line and `curves.jsonl` of one stage; means over `log_every` steps.

    Args:
        directory: None for a process that writes nothing. first_step: steps of the stages before.
    """

    def __init__(
        self,
        directory: Path | None,
        stage: Stage,
        start_step: int,
        first_step: int,
        log_every: int,
        show_progress: bool,
        logs: Sequence[Log],
    ) -> None:
        self.path = None if directory is None else directory / CURVES
        self.stage, self.first_step, self.log_every, self.logs = stage, first_step, log_every, logs
        self.pending: list[Mapping[str, float]] = []
        self.started_s, self.num_done = time.perf_counter(), 0
        self.bar = tqdm(
            total=stage.num_steps,
            initial=start_step,
            desc=stage.name,
            disable=directory is None or not show_progress,
            mininterval=1,
        )

    def steps(self, start: int, end: int) -> Iterator[int]:
        """Count from `start` to `end`, with the bar (steps, time spent, time left, samples per second)."""
        yield from range(start, end)
        self.bar.close()

    def record(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """Remember one step; write a line every `log_every` steps and at the end."""
        self.pending.append(losses)
        self.num_done += 1
        self.bar.update()
        if (step + 1) % self.log_every and step + 1 != self.stage.num_steps:
            return
        mean = {name: float(np.mean([row[name] for row in self.pending])) for name in losses}
        self.pending = []
        num_samples = self.num_done * (self.stage.batch_size + self.stage.num_conversations)
        rate = num_samples / (time.perf_counter() - self.started_s)
        self.bar.set_postfix(loss=f"{mean['loss']:.3f}", samples_per_s=f"{rate:.0f}")
        if self.path is None:
            return
        if message := collapse_message(mean):
            _LOG.warning("stage %s, step %d: %s", self.stage.name, step + 1, message)
        row = {"stage": self.stage.name, "train_step": step + 1, "learning_rate": learning_rate} | mean
        append_row(self.path, row)
        named = {f"{self.stage.name}/{name}": value for name, value in mean.items()}
        for log in self.logs:
            log.numbers(named | {"samples_per_s": rate, "learning_rate": learning_rate}, self.first_step + step + 1)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """One JSON line, numbers rounded to six digits behind the point."""
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
    with path.open("a") as file:
        file.write(json.dumps(rounded) + "\n")


def forget_lost_steps(directory: Path, stages: Sequence[Stage], stage_index: int, step: int) -> None:
    """Drop the rows that a killed run wrote after its last checkpoint; those steps are about to be done again."""
    position = {stage.name: index for index, stage in enumerate(stages)}
    for path in (directory / CURVES, directory / VALIDATION):
        if path.is_file():
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            kept = [row for row in rows if (position[row["stage"]], row["train_step"]) <= (stage_index, step)]
            path.write_text("".join(json.dumps(row) + "\n" for row in kept))
