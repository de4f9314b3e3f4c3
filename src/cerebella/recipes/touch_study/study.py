"""What the study is: refiners, objects, numbers of trials, budgets of training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cerebella.recipes.touch_study.policies import DIRECT, ENTRANTS, MAIN, entrant
from cerebella.touch.objects import SEEN, UNSEEN, shape_of

Do = Literal["plan", "run", "page", "rebuild", "video"]


@dataclass(frozen=True)
class TouchStudy:
    """The whole study.

    Args:
        do: `plan` says what there is to run, in which order, at which cost. `run` trains and measures what is missing.
            `page` writes the page, its pictures and the bundle from the cells in `out`. `rebuild` writes page and pictures
            from the bundle beside the page. `video` films the examples of the cells in `out`.
        data: grasps to train on; make them with `cerebella touch data --out DIR`.
        sphere_data: grasps for fine-tuning; make them with `--world spheres --num-grasps 3000 --shard-size 20`, so that even
            few of them come from several hands.
        refiner: a trained directory that is the main refiner; None trains one.
        out: folder for `cells/` and `policies/`.
        page: the page to write; its pictures and the bundle go into the folder of the same name beside it.
        refiners: names of `policies.ENTRANTS` to run, in any order.
        objects: to train and test with. unseen: to test with. As many as there are of a set are trials per object below.
        trials: per object and goal in the world of the training. sphere_trials: in the other one.
        unseen_trials, ablation_trials, fault_trials: per object, of these conditions.
        num_disturbances: per object.
        num_steps: of the main refiner's training. ablation_steps: of each comparison's. tune_steps: of fine-tuning.
        batch_size, width, learning_rate: of all trainings. tune_learning_rate: of fine-tuning. dead_finger_share: of the
            pairs, those with a blanked finger.
        tuned_sizes: numbers of grasps for fine-tuning, of all objects together, rounded up to as many of each.
        bank_per_object: grasps that the nearest neighbour remembers.
        validate_every, save_every, num_held_out, num_calibration: see `TouchTraining`.
        seed: of the trials and the trainings.
        part, num_parts: do only this share of the plan, so that processes can divide the work. A refiner's cells stay
            together unless its directory is given.
        stop_after: end after so many new rows (a trial, a training, an object of another cell); the next call continues.
        max_cpu_s: begin nothing new after so many CPU seconds of this process.
        show_progress: draw a progress bar.

    Raises:
        ValueError: an unknown name, a value that comes twice, or a number out of range.
    """

    do: Do = "plan"
    data: Path = Path("outputs/touch/skin")
    sphere_data: Path = Path("outputs/touch/spheres")
    refiner: Path | None = None
    out: Path = Path("outputs/touch-study")
    page: Path = Path("docs/touch-study.md")
    refiners: tuple[str, ...] = tuple(ENTRANTS)
    objects: tuple[str, ...] = tuple(shape.name for shape in SEEN)
    unseen: tuple[str, ...] = tuple(shape.name for shape in UNSEEN)
    trials: int = 70
    sphere_trials: int = 20
    unseen_trials: int = 50
    ablation_trials: int = 20
    fault_trials: int = 10
    num_disturbances: int = 50
    num_steps: int = 12_000
    ablation_steps: int = 4000
    tune_steps: int = 1000
    batch_size: int = 256
    width: int = 128
    learning_rate: float = 1e-3
    tune_learning_rate: float = 2e-4
    dead_finger_share: float = 0.1
    tuned_sizes: tuple[int, ...] = (100, 500, 2000)
    bank_per_object: int = 1000
    validate_every: int = 1000
    save_every: int = 250
    num_held_out: int = 2048
    num_calibration: int = 8192
    seed: int = 0
    part: int = 0
    num_parts: int = 1
    stop_after: int | None = None
    max_cpu_s: float | None = None
    show_progress: bool = True

    def __post_init__(self) -> None:
        for name in self.refiners:
            if entrant(name).kind == "tuned":
                raise ValueError(f"{name} comes from tuned_sizes, not from refiners")
        for name in (*self.objects, *self.unseen):
            shape_of(name)
        for name in ("refiners", "objects", "unseen", "tuned_sizes"):
            if len(set(values := getattr(self, name))) != len(values):
                raise ValueError(f"{name} must be different values; got {values}")
        if not self.objects:
            raise ValueError("objects must be one or more names")
        for name in ("trials", "num_steps", "ablation_steps", "tune_steps", "num_parts", "stop_after"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        for name in ("sphere_trials", "unseen_trials", "ablation_trials", "fault_trials", "num_disturbances", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more; got {getattr(self, name)}")
        if not 0 <= self.part < self.num_parts:
            raise ValueError(f"part must be in 0..{self.num_parts - 1} (num_parts {self.num_parts}); got {self.part}")

    @property
    def reference(self) -> str:
        """What ablations are compared with: `main` where both have the same budget."""
        is_same = self.num_steps == self.ablation_steps and self.refiner is None and MAIN in self.refiners
        return MAIN if is_same else DIRECT

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
