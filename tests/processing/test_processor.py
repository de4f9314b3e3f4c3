from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.processing.augmentation import Augmentation
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import FloatArray, Observation, Sample

HORIZON = 6


def position(name: str, slot: int, relative: bool) -> ActionDimension:
    return ActionDimension(
        name=name,
        unit="m",
        kind="position",
        frame="world",
        slot=slot,
        low=-10,
        high=10,
        max_velocity=1,
        max_acceleration=10,
        max_jerk=100,
        hold="last",
        reference=name,
        relative=relative,
    )


ROBOT = Embodiment(
    name="toy",
    control_mode="end_effector",
    states=(Dimension("x", "m", "position", "world", 3, -10, 10), Dimension("y", "m", "position", "world", 0, -10, 10)),
    actions=(position("x", 2, relative=True), position("y", 7, relative=False)),
    views=("base",),
    policy_hz=30,
    control_hz=30,
)
STATISTICS = Statistics(
    robot_type="toy",
    control_mode="end_effector",
    action_mean=np.linspace(-1, 1, HORIZON * 2, dtype=np.float32).reshape(HORIZON, 2),
    action_std=np.linspace(0.5, 2, HORIZON * 2, dtype=np.float32).reshape(HORIZON, 2),
    state_mean=np.array([1.0, -1.0], dtype=np.float32),
    state_std=np.array([2.0, 0.5], dtype=np.float32),
)
TOKENIZER = train_tokenizer([robot_prompt(["base"], "pick it")], vocab_size=300)


def make_processor(statistics: Statistics = STATISTICS) -> Processor:
    return Processor(ROBOT, statistics, TOKENIZER, ImageConfig(8), HORIZON, model_state_dim=8, model_action_dim=8)


def observation(state: tuple[float, float] = (0.5, 0.25), prompt: str = "pick it") -> Observation:
    images = {"base": np.full((16, 32, 3), 7, dtype=np.uint8)}
    return Observation(np.array(state, dtype=np.float32), prompt, tick=0, timestamp_s=0.0, images=images)


def sample(actions: FloatArray, state: tuple[float, float]) -> Sample:
    seen = observation(state)
    is_valid = np.ones(actions.shape, dtype=np.bool_)
    return Sample(seen.images, seen.state, seen.prompt, actions, is_valid, "toy", "end_effector")


coordinates = st.floats(-10, 10, width=32)


@given(st.lists(coordinates, min_size=2 * HORIZON, max_size=2 * HORIZON), st.tuples(coordinates, coordinates))
@settings(max_examples=100, deadline=None)
def test_decode_undoes_encode(numbers: list[float], state: tuple[float, float]) -> None:
    actions = np.array(numbers, dtype=np.float32).reshape(HORIZON, 2)
    batch = make_processor().encode_samples([sample(actions, state)])
    assert batch.actions is not None
    decoded = make_processor().decode(batch.actions, np.array([state], dtype=np.float32))
    np.testing.assert_allclose(decoded[0], actions, atol=2e-5)


@given(st.tuples(coordinates, coordinates), st.tuples(coordinates, coordinates), st.integers(0, HORIZON - 1))
@settings(max_examples=100, deadline=None)
def test_a_prefix_means_the_same_pose_in_every_frame(
    old: tuple[float, float], new: tuple[float, float], length: int
) -> None:
    """The prefix is absolute; seen from another pose its numbers differ, decoded they are what was sent."""
    prefix = np.linspace(-3, 3, 2 * length, dtype=np.float32).reshape(length, 2)
    processor = make_processor()
    for state in (old, new):
        batch = processor.encode([observation(state)], [prefix])
        assert batch.action_prefix is not None
        decoded = processor.decode(batch.action_prefix, np.array([state], dtype=np.float32))
        np.testing.assert_allclose(decoded[0, :length], prefix, atol=2e-5)
        assert not batch.action_prefix[0, length:].any()


def test_numbers_go_to_their_slots_and_the_rest_is_zero() -> None:
    batch = make_processor().encode([observation()], [np.zeros((0, 2), dtype=np.float32)])
    assert batch.state[0, 0].nonzero().flatten().tolist() == [0, 3]
    assert batch.state[0, 0, 3] == pytest.approx((0.5 - 1.0) / 2.0, abs=1e-5)
    assert batch.action_mask[0, 0].nonzero().flatten().tolist() == [2, 7]
    assert batch.prefix_length is not None
    assert batch.prefix_length.tolist() == [0]


def test_image_tokens_match_the_picture_and_short_prompts_are_padded() -> None:
    batch = make_processor().encode(
        [observation(), observation(prompt="pick it now, please")], [np.zeros((0, 2), dtype=np.float32)] * 2
    )
    assert batch.mm_token_type_ids.sum(dim=1).tolist() == [2, 2]
    lengths = batch.attention_mask.sum(dim=1)
    assert lengths[0] < lengths[1] == batch.input_ids.shape[1]
    assert torch.equal(batch.attention_mask[0], (torch.arange(batch.input_ids.shape[1]) < lengths[0]).long())


def test_what_does_not_spread_is_masked_and_decodes_to_its_mean() -> None:
    """The released rule: a std of 1e-5 or less at a row is inactive there, in training and when asked."""
    std = STATISTICS.action_std.copy()
    std[2:, 0] = 1e-5
    processor = make_processor(replace(STATISTICS, action_std=std))
    batch = processor.encode([observation()], [np.ones((4, 2), dtype=np.float32)])
    assert batch.action_prefix is not None
    assert batch.action_mask[0, :, 2].tolist() == [1, 1, 0, 0, 0, 0]
    assert batch.action_mask[0, :, 7].all()
    assert batch.action_prefix[0, :4, 2].ne(0).tolist() == [True, True, False, False]
    trained = processor.encode_samples([sample(np.ones((HORIZON, 2), dtype=np.float32), (0.5, 0.25))])
    assert trained.actions is not None
    assert torch.equal(trained.action_mask, batch.action_mask)
    assert not trained.actions[0, 2:, 2].any()
    decoded = processor.decode(torch.full((1, HORIZON, 8), 3.0), np.array([[0.5, 0.25]], dtype=np.float32))
    np.testing.assert_allclose(decoded[0, 2:, 0], STATISTICS.action_mean[2:, 0] + 0.5, atol=1e-6)


def test_large_pictures_are_resized_and_take_as_many_tokens_as_are_left() -> None:
    processor = Processor(ROBOT, STATISTICS, TOKENIZER, ImageConfig(8, max_pixels=1000), HORIZON, 8, 8)
    seen = replace(observation(), images={"base": np.full((50, 70, 3), 7, dtype=np.uint8)})
    batch = processor.encode([seen], [np.zeros((0, 2), dtype=np.float32)])
    assert batch.image_grid_thw is not None
    assert batch.image_grid_thw.tolist() == [[1, 2, 4]]
    assert batch.mm_token_type_ids.sum() == 2


def test_augmentation_is_off_by_default_and_the_generator_decides() -> None:
    window = sample(np.ones((HORIZON, 2), dtype=np.float32), (0.0, 0.0))
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    windows = [replace(window, images={"base": picture})] * 3
    processor = make_processor()

    def pixels(seed: int | None) -> torch.Tensor:
        if seed is None:
            batch = processor.encode_samples(windows)
        else:
            batch = processor.encode_samples(windows, Augmentation(), np.random.default_rng(seed))
        assert batch.pixel_values is not None
        return batch.pixel_values

    plain, changed = pixels(None), pixels(1)
    assert torch.equal(plain[: len(plain) // 3], plain[len(plain) // 3 : 2 * len(plain) // 3])
    assert not torch.equal(plain, changed)
    assert torch.equal(changed, pixels(1))
    assert not torch.equal(changed, pixels(2))
    with pytest.raises(ValueError, match="an augmentation needs a generator"):
        processor.encode_samples(windows, Augmentation())


def test_motion_alone_is_what_a_whole_encode_gives() -> None:
    seen, prefixes = [observation(), observation((0.1, 0.9))], [np.ones((n, 2), dtype=np.float32) for n in (2, 0)]
    processor = make_processor()
    batch, motion = processor.encode(seen, prefixes), processor.encode_motion(seen, prefixes)
    for name, ours in motion._asdict().items():
        assert torch.equal(ours, getattr(batch, name))
    blind = [replace(one, images={}, prompt="") for one in seen]
    assert all(torch.equal(a, b) for a, b in zip(motion, processor.encode_motion(blind, prefixes), strict=True))


def test_invalid_rows_have_neither_target_nor_mask() -> None:
    actions = np.ones((HORIZON, 2), dtype=np.float32)
    window = sample(actions, (0.0, 0.0))
    is_valid = window.is_valid.copy()
    is_valid[4:] = False
    batch = make_processor().encode_samples([replace(window, is_valid=is_valid)])
    assert batch.actions is not None
    assert not batch.action_mask[0, 4:].any()
    assert not batch.actions[0, 4:].any()
    assert batch.action_mask[0, :4].sum() == 8


def test_bad_input_is_named() -> None:
    processor = make_processor()
    empty = np.zeros((0, 2), dtype=np.float32)
    with pytest.raises(ValueError, match=r"action_prefix must be float32\[p, 2\].*\[1, 3\]"):
        processor.encode([observation()], [np.zeros((1, 3), dtype=np.float32)])
    with pytest.raises(ValueError, match="shorter than the horizon 6; got 6"):
        processor.encode([observation()], [np.zeros((6, 2), dtype=np.float32)])
    with pytest.raises(ValueError, match="must be finite"):
        processor.encode([observation()], [np.full((1, 2), np.nan, dtype=np.float32)])
    with pytest.raises(ValueError, match="missing: 'base'"):
        processor.encode([replace(observation(), images={})], [empty])
    with pytest.raises(ValueError, match="must not contain"):
        processor.encode([observation(prompt="<|image_pad|>")], [empty])
    with pytest.raises(ValueError, match=r"state must be float32\[2\] \(x \[m\], y \[m\]\); got \[3\]"):
        processor.encode([replace(observation(), state=np.zeros(3, dtype=np.float32))], [empty])
    with pytest.raises(ValueError, match="6 action rows; got 5"):
        processor.encode_samples([sample(np.zeros((5, 2), dtype=np.float32), (0.0, 0.0))])
    with pytest.raises(ValueError, match="other/end_effector came to the processor of toy"):
        processor.encode_samples([replace(sample(np.zeros((6, 2), dtype=np.float32), (0.0, 0.0)), robot_type="other")])
    with pytest.raises(ValueError, match="statistics do not fit 'toy' at horizon 6"):
        make_processor(replace(STATISTICS, action_mean=np.zeros((5, 2)), action_std=np.ones((5, 2))))
    with pytest.raises(ValueError, match="slot 7; the model has 4"):
        Processor(ROBOT, STATISTICS, TOKENIZER, ImageConfig(8), HORIZON, model_state_dim=4, model_action_dim=4)
