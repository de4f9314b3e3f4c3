"""A joined batch means to the model what its parts mean."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from cerebella.batch import Batch
from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.processing.images import ImageConfig
from cerebella.processing.join import join
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import Sample

HORIZON = 8
CONFIG = preset("micro", horizon=HORIZON)
TOKENIZER = train_tokenizer([robot_prompt(["base"], "pick it")], vocab_size=CONFIG.brain["text_config"]["vocab_size"])


def make(name: str, views: tuple[str, ...], horizon: int, num_joints: int, **options: bool) -> Processor:
    names = [f"j{i}" for i in range(num_joints)]
    robot = Embodiment(
        name,
        "joint",
        tuple(Dimension(n, "rad", "joint", "base", i, -4, 4) for i, n in enumerate(names)),
        tuple(
            ActionDimension(n, "rad", "joint", "base", i, -4, 4, 1, 1, 1, "last", n, True) for i, n in enumerate(names)
        ),
        views,
        30,
        30,
    )
    zero, one = np.zeros((horizon, num_joints), np.float32), np.ones((horizon, num_joints), np.float32)
    statistics = Statistics(name, "joint", zero, one, zero[0], one[0])
    vision = CONFIG.brain["vision_config"]
    images = ImageConfig(vision["patch_size"], vision["spatial_merge_size"], vision["temporal_patch_size"])
    widths = (CONFIG.state_dim, CONFIG.action_dim)
    return Processor(robot, statistics, TOKENIZER, images, horizon, *widths, **options)


def sample(processor: Processor, seed: int, views: tuple[str, ...] | None = None, num_committed: int = 0) -> Sample:
    generator = np.random.default_rng(seed)
    robot = processor.embodiment
    shown = robot.views if views is None else views
    return Sample(
        {view: generator.integers(0, 256, (32, 32 * (1 + i), 3), dtype=np.uint8) for i, view in enumerate(shown)},
        generator.normal(size=robot.state_dim).astype(np.float32),
        "pick it" + " now" * seed,
        generator.normal(size=(processor.horizon, robot.action_dim)).astype(np.float32),
        np.ones((processor.horizon, robot.action_dim), np.bool_),
        robot.name,
        "joint",
        num_committed,
    )


ONE = make("one", ("base",), HORIZON, 2)
TWO = make("two", ("base", "left_wrist"), HORIZON - 3, 3)


def test_the_model_sees_what_it_would_see_apart() -> None:
    torch.manual_seed(0)
    model = VLA(CONFIG).eval()
    parts = [ONE.encode_samples([sample(ONE, 0), sample(ONE, 3)]), TWO.encode_samples([sample(TWO, 1)])]
    whole = join(parts, ONE.pad_token_id)
    noise = torch.randn(3, HORIZON, whole.action_mask.shape[-1], generator=torch.Generator().manual_seed(1))
    flow_time = torch.tensor([0.2, 0.5, 0.8])

    def velocity(batch: Batch, rows: slice) -> torch.Tensor:
        noisy = noise[rows, : batch.action_mask.shape[1]]
        return model.velocity(model.encode(batch), batch.state, noisy, flow_time[rows], batch.action_mask)

    with torch.no_grad():
        together = velocity(whole, slice(0, 3))
        first, second = velocity(parts[0], slice(0, 2)), velocity(parts[1], slice(2, 3))
    torch.testing.assert_close(together[:2], first, atol=2e-5, rtol=1e-4)
    assert CONFIG.mask_variant != "full"  # so that no row sees the padded ones behind it
    torch.testing.assert_close(together[2:, : HORIZON - 3], second, atol=2e-5, rtol=1e-4)


def test_padding_counts_for_nothing() -> None:
    parts = [ONE.encode_samples([sample(ONE, 3, num_committed=2)]), TWO.encode_samples([sample(TWO, 0)])]
    whole = join(parts, ONE.pad_token_id)
    assert whole.actions is not None
    assert whole.prefix_length is not None
    assert whole.image_grid_thw is not None
    assert whole.actions.shape[1] == HORIZON
    assert not whole.action_mask[1, HORIZON - 3 :].any()
    assert not whole.actions[1, HORIZON - 3 :].any()
    assert whole.prefix_length.tolist() == [2, 0]
    assert len(whole.image_grid_thw) == 3
    for i, part in enumerate(parts):
        length = part.input_ids.shape[1]
        assert torch.equal(whole.input_ids[i, :length], part.input_ids[0])
        assert (whole.input_ids[i, length:] == ONE.pad_token_id).all()
        assert not whole.attention_mask[i, length:].any()
        assert not whole.mm_token_type_ids[i, length:].any()


def test_one_batch_is_itself_and_a_prefix_is_given_to_all() -> None:
    batch = ONE.encode_samples([sample(ONE, 0)])
    assert join([batch], 0) is batch
    prefix = torch.ones_like(batch.action_mask)
    led = replace(batch, action_prefix=prefix, prefix_length=torch.tensor([3]))
    whole = join([replace(batch, prefix_length=None), led], 0)
    assert whole.action_prefix is not None
    assert whole.prefix_length is not None
    assert whole.prefix_length.tolist() == [0, 3]
    assert not whole.action_prefix[0].any()
    assert torch.equal(whole.action_prefix[1:], prefix)


def test_what_does_not_join_is_refused() -> None:
    batch = ONE.encode_samples([sample(ONE, 0)])
    with pytest.raises(ValueError, match="need at least one batch"):
        join([], 0)
    with pytest.raises(ValueError, match="1 of 2 batches have target actions"):
        join([batch, replace(batch, actions=None)], 0)
    narrow = replace(batch, state=batch.state[..., :3])
    with pytest.raises(ValueError, match=r"one padded \(state, action\) width; got \[\(3, "):
        join([batch, narrow], 0)


def test_a_missing_view_is_an_error_unless_it_is_allowed() -> None:
    seen = sample(TWO, 0, ("left_wrist",))
    with pytest.raises(ValueError, match="two needs the views base, left_wrist; missing: 'base'"):
        TWO.encode_samples([seen])
    tolerant = make("two", ("base", "left_wrist"), HORIZON - 3, 3, allow_missing_views=True)
    with pytest.raises(ValueError, match="two needs at least one of base, left_wrist; missing: 'base'"):
        tolerant.encode_samples([replace(seen, images={})])
    whole = sample(TWO, 0)
    mixed = tolerant.encode_samples([whole, seen])
    text = TOKENIZER.decode(mixed.input_ids[1][mixed.attention_mask[1] == 1])
    assert "# Left-Wrist View" in text
    assert "# Base View" not in text
    assert mixed.image_grid_thw is not None
    assert len(mixed.image_grid_thw) == 3
    complete, strict = tolerant.encode_samples([whole]), TWO.encode_samples([whole])
    for field in fields(Batch):
        ours, theirs = getattr(complete, field.name), getattr(strict, field.name)
        assert ours is theirs is None or torch.equal(ours, theirs)
