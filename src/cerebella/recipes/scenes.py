"""Scenes and questions as training data: on disk as conversation records, or in memory for the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cerebella.data.records import write_records
from cerebella.embodiment import Embodiment
from cerebella.envs.scenes.dialogues import Dialogues, make_dialogues
from cerebella.envs.scenes.families import FAMILIES
from cerebella.envs.scenes.questions import QuestionSet, make_questions
from cerebella.envs.scenes.render import render
from cerebella.envs.scenes.scene import draw_scenes
from cerebella.envs.scenes.shapes import HEIGHT_PX
from cerebella.types import Conversation, ImageArray, Sample, SceneTruth

_AT_ONCE = 256
_SHEET_ROWS, _SHEET_COLUMNS = 6, 8


@dataclass(frozen=True)
class ScenesRecipe:
    """What to write.

    Args:
        out: folder for `train.jsonl`, `held_out.jsonl`, `images/` and `sheet.png`.
        families: names of `envs.scenes.families.FAMILIES`.
        num_train, num_held_out: questions per family.
        max_turns: questions per picture in the training set at most; held-out questions stand alone.
        height: rows of a picture (64 or more), columns are 1.5 times as many.
        seed: decides everything.
    """

    out: Path = Path("outputs/scenes")
    families: tuple[str, ...] = tuple(FAMILIES)
    num_train: int = 2000
    num_held_out: int = 1000
    max_turns: int = 4
    height: int = HEIGHT_PX
    seed: int = 0


def generate(recipe: ScenesRecipe) -> list[Path]:
    """Write both splits and a contact sheet; returns the paths."""
    recipe.out.mkdir(parents=True, exist_ok=True)
    train = make_questions(recipe.families, recipe.num_train, recipe.seed, "train")
    held_out = make_questions(recipe.families, recipe.num_held_out, recipe.seed, "held_out")
    paths = [recipe.out / "train.jsonl", recipe.out / "held_out.jsonl", recipe.out / "sheet.png"]
    for path, questions, max_turns in ((paths[0], train, recipe.max_turns), (paths[1], held_out, 1)):
        write_records(path, _in_pieces(make_dialogues(questions, max_turns, recipe.height)))
    Image.fromarray(contact_sheet(recipe.seed)).save(paths[2])
    return paths


def contact_sheet(seed: int, height: int = 2 * HEIGHT_PX) -> ImageArray:
    """The first 48 training scenes of a seed in one picture, uint8[6 * height, 8 * width, 3]."""
    pictures = render(draw_scenes(_SHEET_ROWS * _SHEET_COLUMNS, seed, "train"), height)
    width = pictures.shape[2]
    grid = pictures.reshape(_SHEET_ROWS, _SHEET_COLUMNS, height, width, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(_SHEET_ROWS * height, _SHEET_COLUMNS * width, 3))


@dataclass(frozen=True, eq=False)
class SceneWindows:
    """Scenes dressed as robot windows, so that the vision warm-up learns to see them: nothing to imitate, all to see.

    The prompt is the question; state and actions are zeros and no action counts. Fulfils `training.WindowSource`.

    Args:
        questions: only families that name an object, e.g. `point`. embodiment: of the run. horizon: rows of a window.
    """

    questions: QuestionSet
    embodiment: Embodiment
    horizon: int
    height: int = HEIGHT_PX

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.questions)

    def samples(self, indices: np.ndarray) -> list[Sample]:
        """Windows by index, pictures rendered now, under the embodiment's first view."""
        shape = (self.horizon, self.embodiment.action_dim)
        actions, is_valid = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.bool_)
        state = np.zeros(self.embodiment.state_dim, dtype=np.float32)
        return [
            Sample(
                images={self.embodiment.views[0]: picture},
                state=state,
                prompt=self.questions.questions[index].text,
                actions=actions,
                is_valid=is_valid,
                robot_type=self.embodiment.name,
                control_mode=self.embodiment.control_mode,
            )
            for index, picture in zip(indices, self.questions.images(indices, self.height), strict=True)
        ]

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """Where everything is in the pictures of `samples`; kinds are `envs.scenes.questions.KINDS`."""
        return self.questions.truth(indices, self.height)


def _in_pieces(dialogues: Dialogues) -> Iterator[Conversation]:
    for start in range(0, len(dialogues), _AT_ONCE):
        yield from dialogues.conversations(range(start, min(start + _AT_ONCE, len(dialogues))))
