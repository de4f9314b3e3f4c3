from dataclasses import replace

import numpy as np
import pytest

from cerebella.envs.dynamic.conveyor import COLOURS, SHAPES, ConveyorConfig, step
from cerebella.envs.dynamic.conveyor_prompts import NUM_PROMPTS, TEMPLATES, all_prompts, prompt_text, prompts
from cerebella.envs.dynamic.conveyor_render import COLOUR_RGB, GRIPPER_RGB, pixel_position, render
from cerebella.envs.dynamic.conveyor_reset import reset

CONFIG = ConveyorConfig()


@pytest.mark.parametrize("height", [64, 384])
def test_a_parts_pixel_has_its_colour(height: int) -> None:
    width = height * 3 // 2
    state = reset(range(60), False, CONFIG)
    state = replace(
        state, gripper=np.tile(np.array([0.01, 0.01], dtype=np.float32), (60, 1)), light=np.ones(60, dtype=np.float32)
    )
    images = render(CONFIG, state, height, width)
    uv = np.floor(pixel_position(CONFIG, state.part_position, width)).astype(int)
    inside = state.part_is_present & (uv > 1).all(axis=-1) & (uv[..., 0] < width - 2) & (uv[..., 1] < height - 2)
    scenes, places = np.nonzero(inside)
    assert len(scenes) > 120
    seen = images[scenes, uv[scenes, places, 1], uv[scenes, places, 0]].astype(float)
    nearest = np.linalg.norm(seen[:, None] - COLOUR_RGB, axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest, state.part_colour[scenes, places])


def test_absent_parts_are_not_drawn() -> None:
    state = reset([0], False, CONFIG)
    visible = np.tile(np.array([0.2, 0.15], dtype=np.float32), (1, 5, 1))
    hidden = replace(state, part_position=visible, part_is_present=np.zeros((1, 5), dtype=bool))
    beyond = replace(hidden, part_position=np.full((1, 5, 2), -5.0, dtype=np.float32))
    np.testing.assert_array_equal(render(CONFIG, hidden), render(CONFIG, beyond))


def test_parts_far_outside_leave_the_picture_alone() -> None:
    state = reset([0], False, CONFIG)
    beyond = np.array([[[-9, -9], [9, 0.1], [0.2, 9], [0.2, -9], [-0.03, 0.1]]], dtype=np.float32)
    everywhere = replace(state, part_position=beyond, part_is_present=np.ones((1, 5), dtype=bool))
    nowhere = replace(everywhere, part_is_present=np.zeros((1, 5), dtype=bool))
    np.testing.assert_array_equal(render(CONFIG, everywhere), render(CONFIG, nowhere))


def test_the_gap_between_the_fingers_shows_the_opening() -> None:
    state = reset([0], False, CONFIG)
    state = replace(
        state,
        gripper=np.array([[0.24, 0.16]], dtype=np.float32),
        light=np.ones(1, dtype=np.float32),
        part_is_present=np.zeros((1, 5), dtype=bool),
    )
    gaps = []
    for opening in (0.0, 0.25, 0.5, 0.75, 1.0):
        picture = render(CONFIG, replace(state, opening=np.array([opening], dtype=np.float32)), 384, 576)[0].astype(
            float
        )
        column = np.linalg.norm(picture[:, 280] - GRIPPER_RGB, axis=-1)
        rows = np.flatnonzero(column < 60)
        gaps.append(int(np.diff(rows).max()))
    assert gaps == sorted(set(gaps))


def test_the_picture_moves_with_the_belt() -> None:
    state = reset([0], False, CONFIG)
    assert (
        render(CONFIG, state) != render(CONFIG, step(CONFIG, state, np.array([[0.2, 0.1, 1.0]], dtype=np.float32)))
    ).any()


def test_pictures_are_the_same_alone_and_together() -> None:
    state = reset(range(16), True, CONFIG)
    together = render(CONFIG, state)
    assert together.shape == (16, 64, 96, 3)
    for i in range(16):
        np.testing.assert_array_equal(render(CONFIG, state.take(slice(i, i + 1)))[0], together[i])


@pytest.mark.parametrize("size", [(64, 64), (16, 24)])
def test_bad_picture_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="64 x 96"):
        render(CONFIG, reset([0], False, CONFIG), *size)


def test_every_prompt_names_exactly_the_target() -> None:
    state = reset(range(400), False, CONFIG)
    for i, text in enumerate(prompts(state)):
        named = [colour for colour in range(len(COLOURS)) if COLOURS[colour] in text.split()]
        assert named == [state.target_colour[i]]
        shapes = [shape for shape in range(len(SHAPES)) if SHAPES[shape] in text.split()]
        assert shapes in ([], [state.target_shape[i]])
        present = state.part_colour[i][state.part_is_present[i]]
        assert (present == named[0]).sum() == 1


def test_wordings_differ() -> None:
    assert len(TEMPLATES) >= 8
    assert len({prompt_text(i, 0, 0) for i in range(NUM_PROMPTS)}) == NUM_PROMPTS
    assert set(prompts(reset(range(50), False, CONFIG))) <= set(all_prompts())
    with pytest.raises(ValueError, match="prompt_index"):
        prompt_text(NUM_PROMPTS, 0, 0)
