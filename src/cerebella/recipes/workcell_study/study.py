"""What the study is: one policy and its variations, delays, numbers of episodes, where everything lies."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cerebella.recipes.workcell_policy import WorkcellPolicy
from cerebella.recipes.workcell_study.names import DEFAULT, MODES, TRAININGS
from cerebella.runtime.executor_config import default_execute_horizon

Do = Literal["plan", "run", "page", "rebuild", "videos"]
_NOT_PLANNED = ("do", "runs", "page", "part", "num_parts", "budget_cpu_h", "stop_after", "show_progress")
_NOT_OF_THE_POLICY = ("out", "device", "num_processes", "num_threads", "save_every", "show_progress")


@dataclass(frozen=True)
class StudyWorkcell:
    """The whole study.

    Args:
        do: `plan` says what there is to run, in which order, at which cost. `run` trains and measures what is missing.
            `page` writes the page, its pictures and the bundle from the cells in `runs`. `rebuild` writes page and pictures
            from the bundle beside the page. `videos` films successes and failures; it needs cells and policies.
        runs: folder of `cells/`, of the held-out demonstrations, and of every training but the default one.
        policy: how the default policy is trained, and where it lies (`policy.out`); one that is there is not trained again.
        page: the page to write; its pictures, films and the bundle go into the folder of the same name beside it.
        trainings: names of `names.TRAININGS`, in this order. The default one always has to be there: the others share its data.
        modes: of the default training. Of the others only `prefix` is driven.
        delays: ticks between an observation and its reply, the most important one first.
        episodes: per condition. shard_size: episodes of one cell file: what a kill loses.
        batch: environments in lock step; of influence on rounding only.
        max_ticks: an episode ends after so many ticks even if it is not decided; the task's own limit if left out.
        first_episode_seed: of the first episode; the same ones for every condition.
        held_out_episodes: demonstrations that nobody learns from, for questions. questions: asked per family, at most; 0 asks
            none.
        stream_s: length of the stream, seconds of the virtual clock; 0 leaves the streams out.
        part, num_parts: do only this share of the plan, so that processes can divide the work. Each trains some of the
            variations and waits for those that the others train.
        budget_cpu_h: begin nothing new after so many CPU hours of this process and of its finished children.
        stop_after: end after so many new cells; the next call continues.
        show_progress: draw a progress bar.

    Raises:
        ValueError: an unknown name, a value that comes twice, or a number out of range.
    """

    do: Do = "plan"
    runs: Path = Path("outputs/workcell-study")
    policy: WorkcellPolicy = field(default=WorkcellPolicy(out=Path("outputs/workcell-study/default")))
    page: Path = Path("docs/workcell-report.md")
    trainings: tuple[str, ...] = tuple(TRAININGS)
    modes: tuple[str, ...] = MODES
    delays: tuple[int, ...] = (3, 6, 0)
    episodes: int = 100
    shard_size: int = 10
    batch: int = 5
    max_ticks: int | None = None
    first_episode_seed: int = 1_000_000
    held_out_episodes: int = 16
    questions: int = 150
    stream_s: float = 1800.0
    part: int = 0
    num_parts: int = 1
    budget_cpu_h: float | None = None
    stop_after: int | None = None
    show_progress: bool = True

    def __post_init__(self) -> None:
        for name, known in (("trainings", tuple(TRAININGS)), ("modes", MODES)):
            if unknown := [value for value in getattr(self, name) if value not in known]:
                raise ValueError(f"unknown name {unknown[0]!r} in {name}; known: {', '.join(known)}")
        for name in ("trainings", "modes", "delays"):
            if not (values := getattr(self, name)) or len(set(values)) != len(values):
                raise ValueError(f"{name} must be one or more different values; got {values}")
        if DEFAULT not in self.trainings:
            raise ValueError(f"trainings must hold {DEFAULT!r}, whose data the others share; got {self.trainings}")
        if not 0 <= min(self.delays) <= max(self.delays) <= self.policy.max_prefix:
            raise ValueError(
                f"delays must be in 0..{self.policy.max_prefix} ticks (policy.max_prefix); got {self.delays}"
            )
        for name in (
            "episodes",
            "shard_size",
            "batch",
            "held_out_episodes",
            "num_parts",
            "stop_after",
            "max_ticks",
        ):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        for name in ("first_episode_seed", "questions", "stream_s"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name} must be 0 or more; got {value}")
        if not 0 <= self.part < self.num_parts:
            raise ValueError(f"part must be in 0..{self.num_parts - 1} (num_parts {self.num_parts}); got {self.part}")

    @property
    def cells(self) -> Path:
        """Folder of the cell files."""
        return self.runs / "cells"

    @property
    def held_out(self) -> Path:
        """The demonstrations that nobody learns from."""
        return self.runs / "held_out"

    @property
    def media(self) -> Path:
        """Folder of what belongs to the page."""
        return self.page.with_suffix("")

    @property
    def bundle(self) -> Path:
        """All cells in one file."""
        return self.media / "cells.jsonl.gz"

    def directory(self, training: str) -> Path:
        """Folder of a training's stages."""
        return self.policy.out if training == DEFAULT else self.runs / training

    def execute_horizon(self, mode: str, delay: int) -> int:
        """Rows of a chunk that are executed before the next request."""
        return default_execute_horizon(mode, delay, self.policy.horizon)

    def planned(self) -> dict[str, Any]:
        """The fields that say what the study is, for the bundle; not where it lies or how it was cut into runs."""
        fields = {name: value for name, value in asdict(self).items() if name not in _NOT_PLANNED}
        fields["policy"] = {name: value for name, value in fields["policy"].items() if name not in _NOT_OF_THE_POLICY}
        return json.loads(json.dumps(fields))

    @classmethod
    def of_plan(cls, planned: dict[str, Any], page: Path) -> "StudyWorkcell":
        """The study whose `planned()` this is."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in planned.items()
        }
        return cls(page=page, **{**plain, "policy": WorkcellPolicy(**planned["policy"])})
