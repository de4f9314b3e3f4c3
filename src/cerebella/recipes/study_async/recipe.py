"""What the study is: tasks, horizons, methods, delays, seeds, episodes, budget."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cerebella.recipes.study_async.methods import METHODS, check_methods

Do = Literal["run", "plan", "page", "rebuild", "videos"]
Observed = Literal["state", "pixels"]
TASKS = ("jammed_drawer", "mode_switch", "intercept", "insert_moving", "balance")
BURST = "burst"
_NOT_PLANNED = ("out", "page", "do", "part", "num_parts", "max_cpu_s", "stop_after", "save_every", "show_progress")


@dataclass(frozen=True)
class StudyAsyncRecipe:
    """The whole study.

    Args:
        do: `run` trains and measures what is missing, the most informative first. `plan` only says what that would be.
            `page` writes the page, its pictures and the bundle from the cells in `out`. `rebuild` writes page and pictures
            from the bundle beside the page. `videos` films the methods on one task; it needs the policies in `out`.
        observation: what policies act from. `state`: vectors, see `recipes.state_training`. `pixels`: pictures and what the
            robot itself measures, see `recipes.pixel_training`; such a study has an `out` and a page of its own.
        out: folder for `cells/` and `policies/`.
        page: the page to write; its pictures, table and bundle go into the folder of the same name beside it.
        tasks: of the dynamic suite, without `dynamic/`. horizons: rows of a chunk, H. Half of it is executed.
        longer_tasks, longer_methods: only these are run at the horizons behind the first: the whole table would be too much.
        methods: see `methods`. delays: ticks between an observation and its reply. with_burst: also under a trace with
            bursts of latency.
        other_horizons: execute horizons beside H / 2, at the first of `horizons`, under `other_delays`, for
            `other_methods`, where delay <= execute horizon <= H - delay. longer_other_horizons: the same at the others.
        seeds: of training; each has its own set of episodes, the same for every method.
        num_episodes: per cell. num_stale_windows: per trap cell. trap_delays: rows of the stale prefixes; none skips them.
        num_windows, base_steps, variant_steps, batch_size: of every training; the defaults of `StateTraining` or
            `PixelTraining` if left out. width: of state policies. warmup_steps: of pixel policies.
        part, num_parts: run every `num_parts`-th base policy with all its variants, beginning with number `part`, so that
            processes can share the work.
        max_cpu_s: begin nothing new after so many CPU seconds of this process.
        stop_after: end after so many new cells; the next call continues.
        save_every: training steps between two checkpoints.
        show_progress: draw a progress bar.

    Raises:
        ValueError: a method is unknown, a value comes twice, or a number is out of range.
    """

    do: Do = "run"
    observation: Observed = "state"
    out: Path = Path("outputs/study-async")
    page: Path = Path("docs/study-async.md")
    tasks: tuple[str, ...] = TASKS
    horizons: tuple[int, ...] = (16, 30)
    methods: tuple[str, ...] = tuple(METHODS)
    delays: tuple[int, ...] = (0, 2, 4, 6, 8)
    with_burst: bool = True
    longer_tasks: tuple[str, ...] = ("jammed_drawer", "mode_switch", "intercept")
    longer_methods: tuple[str, ...] = (
        "sync",
        "naive",
        "guided",
        "clean",
        "band",
        "lambda",
        "all",
        "stale",
        "stale_exact",
    )
    other_horizons: tuple[int, ...] = (4, 6, 12)
    longer_other_horizons: tuple[int, ...] = (6,)
    other_delays: tuple[int, ...] = (2, 4, 6)
    other_methods: tuple[str, ...] = (
        "naive",
        "clean",
        "all",
        "stale",
        "clean_exact",
        "stale_exact",
        "band_stale_exact",
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    num_episodes: int = 64
    num_stale_windows: int = 512
    trap_delays: tuple[int, ...] = (4, 8)
    num_windows: int | None = None
    base_steps: int | None = None
    variant_steps: int | None = None
    batch_size: int | None = None
    width: int | None = None
    warmup_steps: int | None = None
    part: int = 0
    num_parts: int = 1
    max_cpu_s: float | None = None
    stop_after: int | None = None
    save_every: int = 500
    show_progress: bool = True

    def __post_init__(self) -> None:
        check_methods(self.methods)
        if self.other_horizons or self.longer_other_horizons:
            check_methods(self.other_methods)
        foreign = "warmup_steps" if self.observation == "state" else "width"
        if getattr(self, foreign) is not None:
            raise ValueError(f"{foreign} is no size of a policy that acts from {self.observation}; leave it out")
        if self.observation == "pixels" and "roll_forward" in self.methods:
            raise ValueError("roll_forward moves a state vector, which a picture has not; leave it out of the methods")
        for name in ("tasks", "horizons", "delays", "seeds"):
            if not (values := getattr(self, name)) or len(set(values)) != len(values):
                raise ValueError(f"{name} must be one or more different values; got {values}")
        if odd := [task for task in self.tasks if "/" in task]:
            raise ValueError(f"tasks are named without their suite, as {odd[0].rpartition('/')[2]!r}; got {odd[0]!r}")
        if min(self.horizons) < 4 or any(horizon % 2 for horizon in self.horizons):
            raise ValueError(f"horizons must be even and 4 rows or more; got {self.horizons}")
        for name in ("delays", "seeds", "trap_delays", "other_delays"):
            if any(value < 0 for value in getattr(self, name)):
                raise ValueError(f"{name} must be 0 or above; got {getattr(self, name)}")
        for name in ("num_episodes", "num_stale_windows", "num_parts", "save_every", "stop_after"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        if not 0 <= self.part < self.num_parts:
            raise ValueError(f"part must be in 0..{self.num_parts - 1} (num_parts {self.num_parts}); got {self.part}")

    def tasks_at(self, horizon: int) -> tuple[str, ...]:
        """The tasks that are run with chunks of `horizon` rows."""
        return tuple(t for t in self.tasks if horizon == self.horizons[0] or t in self.longer_tasks)

    def methods_at(self, horizon: int) -> tuple[str, ...]:
        """The methods that are run with chunks of `horizon` rows."""
        return tuple(m for m in self.methods if horizon == self.horizons[0] or m in self.longer_methods)

    def other_horizons_at(self, horizon: int) -> tuple[int, ...]:
        """The execute horizons beside H / 2 with chunks of `horizon` rows."""
        others = self.other_horizons if horizon == self.horizons[0] else self.longer_other_horizons
        return tuple(other for other in others if other != horizon // 2)

    @property
    def cells(self) -> Path:
        """Folder of the cell files."""
        return self.out / "cells"

    @property
    def media(self) -> Path:
        """Folder of what belongs to the page."""
        return self.page.with_suffix("")

    @property
    def bundle(self) -> Path:
        """All cells in one file."""
        return self.media / "cells.jsonl.gz"

    def planned(self) -> dict[str, Any]:
        """The fields that say what the study is, for the bundle; not where it lies or how it was cut into runs."""
        return json.loads(json.dumps({k: v for k, v in asdict(self).items() if k not in _NOT_PLANNED}, default=str))

    @classmethod
    def of_plan(cls, planned: Mapping[str, Any], page: Path) -> "StudyAsyncRecipe":
        """The recipe whose `planned()` this is."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in planned.items()
        }
        return cls(page=page, **plain)


PIXELS = StudyAsyncRecipe(
    observation="pixels",
    out=Path("outputs/study-async-pixels"),
    page=Path("docs/study-async-pixels.md"),
    tasks=("jammed_drawer", "conveyor"),
    horizons=(16,),
    methods=("naive", "clean_exact", "band_stale_exact"),
    with_burst=False,
    other_horizons=(6,),
    other_methods=("naive", "clean_exact", "band_stale_exact"),
    seeds=(0,),
    save_every=100,
)
"""The most informative conditions again, from pictures, with policies of the shipped size."""
