"""The study of tactile refinement: start here. Train and measure what is missing, then write the page.

`study` says how large it is, `plan` which cells there are, `protocol` how a trial is drawn, `work` how cells get their rows,
`page` what a person reads.

    <out>/cells/*.json      one file per cell; rows that are there are not run again
    <out>/policies/         every trained refiner, and what a killed training goes on from
    <page>                  the page; its pictures and all cells in one file are in the folder beside it
"""

from pathlib import Path

from cerebella.recipes.touch_study import plan
from cerebella.recipes.touch_study.study import TouchStudy


def run(study: TouchStudy) -> list[Path]:
    """Do what `study.do` says; returns the paths written.

    Raises:
        ValueError: a cell in `out` was made with other settings, or there is nothing to train on.
        FileNotFoundError: `page` and `video` without cells, `rebuild` without a bundle.
    """
    if study.do == "plan":
        print(plan.table(study))
        return []
    if study.do == "run":
        from cerebella.recipes.touch_study.work import measure_missing  # loads torch, which a page does not need

        return measure_missing(study)
    from cerebella.recipes.touch_study.page import rebuild, write_page

    if study.do == "page":
        return write_page(study)
    if study.do == "rebuild":
        return rebuild(study)
    from cerebella.recipes.touch_study.video import write_videos

    return write_videos(study)
