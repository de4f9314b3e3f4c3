"""`cerebella train`: the first word picks a recipe, the others change fields of its dataclass."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tyro

from cerebella.cli.errors import check_name


def train(words: Sequence[str]) -> int:
    """Run a recipe, or continue it where it stopped; prints the paths that it wrote."""
    recipes = _recipes()
    known = f"recipes: {', '.join(recipes)}"
    if not words:
        raise ValueError(f"which recipe? {known}. Its fields: cerebella train RECIPE --help")
    if words[0] in ("-h", "--help"):
        print(
            f"usage: cerebella train RECIPE [--field value]\n\n{known}\nFields of a recipe: cerebella train RECIPE --help"
        )
        return 0
    name, *rest = words
    check_name("recipe", name, recipes)
    recipe, run = recipes[name]
    prog = f"cerebella train {name}"
    if isinstance(recipe, type):
        options = tyro.cli(recipe, args=rest, prog=prog)
    else:
        options = tyro.cli(type(recipe), args=rest, prog=prog, default=recipe)
    for path in run(options):
        print(f"wrote {path}")
    return 0


def _recipes() -> dict[str, tuple[Any, Callable[[Any], Iterable[Path]]]]:
    """Name -> (its dataclass, or one of it with other defaults, and the function that runs it and returns what it wrote)."""
    from cerebella.recipes import (
        conveyor,
        nano,
        scene_brain,
        study_choice,
        study_retention,
        workcell_policy,
        workcell_warmup,
    )
    from cerebella.recipes.fine_tune.options import FINE_TUNES
    from cerebella.recipes.fine_tune.run import fine_tune
    from cerebella.recipes.study_async.recipe import PIXELS, StudyAsyncRecipe
    from cerebella.recipes.study_async.run import run as study_async
    from cerebella.recipes.workcell_study.study import StudyWorkcell

    return {
        "conveyor": (conveyor.ConveyorRecipe, conveyor.train),
        "scene-brain": (scene_brain.SceneBrainRecipe, scene_brain.train),
        "scene-brain-second": (scene_brain.SECOND_LESSON, scene_brain.train),
        "nano": (nano.NanoRecipe, nano.train),
        "workcell": (workcell_policy.WorkcellPolicy, workcell_policy.train),
        "workcell-warmup": (workcell_warmup.WorkcellWarmup, workcell_warmup.warm_up),
        "study-retention": (study_retention.RetentionRecipe, study_retention.run),
        "study-choice": (study_choice.StudyChoiceRecipe, study_choice.run),
        "study-async": (StudyAsyncRecipe, study_async),
        "study-async-pixels": (PIXELS, study_async),
        "study-workcell": (StudyWorkcell, _study_workcell),
        **{kind.recipe: (kind, fine_tune) for kind in FINE_TUNES},
    }


def _study_workcell(study: Any) -> Iterable[Path]:
    from cerebella.recipes.workcell_study.run import run  # loads MuJoCo

    return run(study)
