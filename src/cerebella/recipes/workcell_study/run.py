"""The study of a workcell policy: start here. Train what is missing, drive, ask, and write the page.

Does a robot that moves on while it thinks do more than one that waits, with the same weights? Is the default way of training for
it better than training-time real-time chunking? Does a brain that learns to move forget what it saw? Does it help that it
proposes several chunks? `names` says who is compared, `trainings` how they are trained, `plan` which cells there are, `work`
and what it calls how a cell gets its numbers, `page` what a person reads.

    <runs>/cells/*.json             one file per cell; what is there is not run again
    <policy.out>, <runs>/<name>/    the trainings
    <runs>/held_out/                demonstrations that nobody learns from
    <page>                          the page; its pictures, films and all cells in one file are in the folder beside it
"""

from pathlib import Path

from cerebella.recipes.workcell_study import plan
from cerebella.recipes.workcell_study.page import rebuild, write_page
from cerebella.recipes.workcell_study.study import StudyWorkcell


def run(study: StudyWorkcell) -> list[Path]:
    """Do what `study.do` says; returns the paths written.

    Raises:
        ValueError: a cell in `runs` was made with other settings.
        FileNotFoundError: `page` and `videos` without cells, `rebuild` without a bundle.
    """
    if study.do == "plan":
        print(plan.plan_table(study, []) + "\n" + plan.left_out())
        return []
    if study.do == "page":
        return write_page(study)
    if study.do == "rebuild":
        return rebuild(study)
    if study.do == "videos":
        from cerebella.recipes.workcell_study.film import write_films

        return write_films(study)
    from cerebella.recipes.workcell_study.work import measure_missing

    return measure_missing(study)
