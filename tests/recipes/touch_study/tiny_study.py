"""A study that takes seconds: two objects, real grasps in the skin world, refiners of a few steps."""

from dataclasses import replace
from pathlib import Path

from cerebella.recipes.touch_study.study import TouchStudy
from cerebella.touch.grasp_data import GraspPlan, generate

OBJECTS = ("plate_5x110x50", "rod_8x120")
TINY = TouchStudy(
    do="run",
    refiners=("main", "neighbours"),
    objects=OBJECTS,
    unseen=("rod_7x120",),
    trials=2,
    sphere_trials=0,
    unseen_trials=1,
    ablation_trials=1,
    fault_trials=1,
    num_disturbances=2,
    num_steps=4,
    ablation_steps=4,
    tune_steps=2,
    tuned_sizes=(4,),
    batch_size=8,
    width=32,
    bank_per_object=8,
    validate_every=4,
    save_every=4,
    num_held_out=16,
    num_calibration=64,
    show_progress=False,
)


def make_data(folder: Path) -> Path:
    """Twenty grasps in two hands of each object."""
    plan = GraspPlan(objects=OBJECTS, num_grasps=40, shard_size=10)
    generate(folder / "skin", plan, show_progress=False)
    return folder / "skin"


def study_in(folder: Path, data: Path) -> TouchStudy:
    """The study with everything it writes below a folder. The grasps of the other world are those of this one."""
    return replace(TINY, data=data, sphere_data=data, out=folder / "out", page=folder / "docs" / "touch.md")
