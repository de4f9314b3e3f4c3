from pathlib import Path

import numpy as np
from PIL import Image

from cerebella.data.records import RecordSource
from cerebella.data.windows import Run
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.scenes.questions import make_questions
from cerebella.recipes.scenes import ScenesRecipe, SceneWindows, generate


def test_what_is_written_is_what_is_asked(tmp_path: Path) -> None:
    recipe = ScenesRecipe(out=tmp_path / "scenes", families=("colour", "point"), num_train=12, num_held_out=6)
    train, held_out, sheet = generate(recipe)
    source = RecordSource(held_out)
    records = [record for i in range(12) for record in source.read(Run(0, i, 1, i))]
    questions = make_questions(recipe.families, 6, 0, "held_out")
    expected = {(q.text, q.answer) for q in questions.questions}
    assert {(r.turns[0][1].removeprefix("<image>\n"), r.turns[1][1]) for r in records} == expected
    first = next(i for i, q in enumerate(questions.questions) if q.answer == records[0].turns[1][1])
    np.testing.assert_array_equal(records[0].images[0], questions.images([first])[0])
    turns = [line.count('"from"') for line in train.read_text().splitlines()]
    assert sum(turns) == 2 * 24
    assert max(turns) > 2
    with Image.open(sheet) as picture:
        assert picture.size == (8 * 192, 6 * 128)


def test_scenes_as_windows_have_nothing_to_imitate() -> None:
    questions = make_questions(["point"], 8, 0, "train")
    windows = SceneWindows(questions, CONVEYOR, horizon=16)
    indices = np.array([3, 5])
    samples, truth = windows.samples(indices), windows.truth(indices)
    assert len(windows) == 8
    assert not any(sample.is_valid.any() for sample in samples)
    assert [sample.prompt for sample in samples] == [questions.questions[i].text for i in indices]
    np.testing.assert_array_equal(samples[1].images["base"], questions.images([5])[0])
    assert truth.pixel.shape[0] == 2
