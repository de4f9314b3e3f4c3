"""The study of asynchronous execution: start here. Train and drive what is missing, then write the page.

Nobody has published which trick does what: the paper's three tricks, the released code's, and those of others run here
on the same small policies, the same episodes, the same delays. `plan` says which cells there are, `cells` what lies on the
disk, `work` and `measuring` how a cell gets its numbers, `page` what a person reads.

    <out>/cells/*.json      one file per cell; what is there is not run again
    <out>/policies/         every trained policy, and what a killed training goes on from
    <page>                  the page; its pictures, its table and all cells in one file are in the folder beside it
"""

from pathlib import Path

from cerebella.recipes.study_async.page import plan_table, rebuild, write_page
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe


def run(recipe: StudyAsyncRecipe) -> list[Path]:
    """Do what `recipe.do` says; returns the paths written.

    Raises:
        ValueError: a task is unknown; a cell in `out` was made with other settings.
        FileNotFoundError: `rebuild` without a bundle, `page` without cells, `videos` without policies.
    """
    if recipe.do == "plan":
        print(plan_table(recipe, []))
        return []
    if recipe.do == "page":
        return write_page(recipe)
    if recipe.do == "rebuild":
        return rebuild(recipe)
    if recipe.do == "videos":
        from cerebella.recipes.study_async.video import write_videos

        return write_videos(recipe)
    from cerebella.recipes.study_async.work import measure_missing  # loads torch, which a page does not need

    return measure_missing(recipe)
