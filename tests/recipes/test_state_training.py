"""The twelve variants: which rule each one trains under, which windows it sees; and a training that is interrupted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cerebella.envs.dynamic.intercept import Intercept
from cerebella.models.attention_mask import action_mask_between
from cerebella.policies.state_policy import ROWS_PER_UNIT, StatePolicy
from cerebella.processing.motion import MotionProcessor
from cerebella.recipes.state_training import (
    BASE,
    VARIANTS,
    StateTraining,
    encoded_windows,
    is_finished,
    measure_processor,
    model_config,
    train_state_policy,
)
from cerebella.training.logs import CURVES

HORIZON = 12
TINY = StateTraining(
    Intercept(),
    HORIZON,
    "all",
    num_windows=64,
    base_steps=4,
    variant_steps=4,
    batch_size=8,
    max_prefix=4,
    num_layers=1,
    save_every=2,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("windows")


@pytest.fixture(scope="module")
def processor(directory: Path) -> MotionProcessor:
    return measure_processor(TINY, directory)


def test_variants_have_the_rules_that_they_are_called_by() -> None:
    rules = {name: (v.mask_variant, v.window, v.offset, v.hide_probability, v.reweight) for name, v in VARIANTS.items()}
    plain = ("causal", 4, 0, 0.0, False)
    assert rules == {
        "sync": plain,
        "clean": plain,
        "offset": ("causal", 4, 10, 0.0, False),
        "band": ("band", 4, 0, 0.0, False),
        "lambda": ("lambda", 4, 0, 0.0, False),
        "hide": ("causal", 4, 0, 0.5, False),
        "reweight": ("causal", 4, 0, 0.0, True),
        "all": ("lambda", 4, 10, 0.5, True),
        "released": ("band", 4, 10, 0.5, True),
        "stale": plain,
        "all_stale": ("lambda", 4, 10, 0.5, True),
        "band_stale": ("band", 4, 0, 0.0, False),
        "roll_forward": plain,
    }
    assert [name for name, v in VARIANTS.items() if not v.uses_prefix] == ["sync", "roll_forward"]
    assert [name for name, v in VARIANTS.items() if v.stale_share] == ["stale", "all_stale", "band_stale"]


def test_masks_really_differ() -> None:
    prefix, masks = torch.tensor([4]), {}
    for name in ("clean", "band", "lambda"):
        config = model_config(TINY, VARIANTS[name])
        masks[name] = action_mask_between(config.mask_variant, HORIZON, prefix, config.mask_window)[0]
    last = HORIZON - 1
    assert bool(masks["clean"][last, :4].all())
    assert not bool(masks["band"][last, : last - 4].any())
    assert not bool(masks["lambda"][last, :4].any())
    assert bool(masks["lambda"][last, 4:].all())


def test_windows_show_what_the_variant_learns_from(processor: MotionProcessor, directory: Path) -> None:
    plain = encoded_windows(TINY, VARIANTS["clean"], processor, directory)
    stale = encoded_windows(TINY, VARIANTS["stale"], processor, directory)
    for batch in (plain, stale):
        assert batch.actions is not None
        assert batch.prefix_length is not None
        assert batch.actions.shape == (64, HORIZON, 32)
        assert batch.input_ids.shape == (64, 0)
    assert plain.prefix_length is not None
    assert stale.prefix_length is not None
    assert not bool(plain.prefix_length.any())
    assert 8 < int((stale.prefix_length > 0).sum()) < 48
    assert int(stale.prefix_length.max()) <= TINY.max_prefix


def test_a_rolled_window_begins_where_its_prefix_ends(processor: MotionProcessor, directory: Path) -> None:
    plain = encoded_windows(TINY, VARIANTS["clean"], processor, directory)
    rolled = encoded_windows(TINY, VARIANTS["roll_forward"], processor, directory)
    assert plain.actions is not None
    assert rolled.actions is not None
    assert rolled.actions.shape == plain.actions.shape
    with np.load(directory / f"{TINY.path('windows')}.npz") as stored:
        states, actions = stored["states"], stored["actions"]
    assert actions.shape == (64, HORIZON + TINY.max_prefix, 2)
    absolute = processor.decode(rolled.actions, _raw_states(rolled.state, processor))
    shifts = (rolled.state[:, 0, -1] * ROWS_PER_UNIT).int().numpy()
    assert sorted(set(shifts.tolist())) == list(range(TINY.max_prefix + 1))
    assert not bool(plain.state[:, 0, -1].any())
    seen = _raw_states(rolled.state, processor)
    for i, shift in enumerate(shifts.tolist()):
        np.testing.assert_allclose(absolute[i], actions[i, shift : shift + HORIZON], atol=1e-4)
        np.testing.assert_allclose(seen[i, :2], actions[i, shift - 1] if shift else states[i, :2], atol=1e-4)
        np.testing.assert_allclose(seen[i, 2:], states[i, 2:], atol=1e-4)


def _raw_states(state: torch.Tensor, processor: MotionProcessor) -> np.ndarray:
    """The inverse of the state's way into the model."""
    used = state[:, 0].numpy()[:, processor.state_slots]
    return (used * processor.statistics.state_std + processor.statistics.state_mean).astype(np.float32)


@pytest.mark.parametrize("variant", ["sync", "clean", "all_stale", "roll_forward"])
def test_two_halves_are_the_whole(variant: str, tmp_path: Path) -> None:
    training = replace(TINY, variant=variant)
    whole = train_state_policy(training, tmp_path / "whole")
    assert whole is not None
    parts, calls = None, 0
    while parts is None:
        parts, calls = train_state_policy(replace(training, stop_after=2), tmp_path / "parts"), calls + 1
    assert calls == 3, "half a base; the other half and half a variant; the rest"
    for ours, theirs in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for name in (BASE, variant):
        out = tmp_path / "parts" / training.path(name)
        assert is_finished(out)
        assert len((out / CURVES).read_text().splitlines()) == 1
        assert not (out / "run").exists()
    wants_prefix = VARIANTS[variant].uses_prefix or VARIANTS[variant].roll_forward
    assert parts.metadata.max_trained_prefix == (TINY.max_prefix if wants_prefix else 0)
    assert parts.roll_forward == VARIANTS[variant].roll_forward


def test_variants_share_one_base_and_differ(tmp_path: Path) -> None:
    policies = [train_state_policy(replace(TINY, variant=name), tmp_path) for name in ("clean", "band")]
    base = StatePolicy.load(tmp_path / TINY.path(BASE))
    made = (tmp_path / TINY.path(BASE) / "config.json").stat().st_mtime_ns
    again = train_state_policy(replace(TINY, variant="clean"), tmp_path)
    assert (tmp_path / TINY.path(BASE) / "config.json").stat().st_mtime_ns == made
    weights = []
    for policy in (base, *policies, again):
        assert policy is not None
        weights.append(torch.cat([p.flatten() for p in policy.model.parameters()]))
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'all_of_it'; known variants: sync, clean"):
        replace(TINY, variant="all_of_it")
    with pytest.raises(ValueError, match=r"max_prefix must be in 1\.\.11 \(rows\); got 12"):
        replace(TINY, max_prefix=12)
