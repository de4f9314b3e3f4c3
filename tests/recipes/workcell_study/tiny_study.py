"""A study that takes seconds: a policy that has learnt nothing, episodes of a few ticks, everything real."""

from pathlib import Path

from cerebella.recipes.workcell_policy import WorkcellPolicy
from cerebella.recipes.workcell_study.study import StudyWorkcell


def study_in(folder: Path) -> StudyWorkcell:
    """Everything that the study writes lies below a folder."""
    policy = WorkcellPolicy(
        task="workcell/insert",
        out=folder / "default",
        horizon=8,
        episodes=2,
        render_px=32,
        warmup_steps=2,
        brain_steps=2,
        cerebellum_steps=2,
        async_steps=2,
        batch_size=6,
        max_prefix=3,
        device="cpu",
        num_processes=1,
        num_threads=1,
        show_progress=False,
    )
    return StudyWorkcell(
        do="run",
        runs=folder / "runs",
        policy=policy,
        page=folder / "docs" / "report.md",
        trainings=("default",),
        modes=("prefix", "sync"),
        delays=(2,),
        episodes=2,
        shard_size=1,
        batch=1,
        max_ticks=7,
        held_out_episodes=1,
        questions=0,
        stream_s=0.0,
        show_progress=False,
    )
