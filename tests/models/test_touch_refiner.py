"""The refiner: what it reads and what it does not, its numbers and their scale."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cerebella.geometry import compose, inverse, se3_exp, so3_log
from cerebella.models.touch_refiner import TouchRefiner, TouchRefinerConfig, increments, unpack
from cerebella.touch.increments import increment_numbers

CONFIGS = {
    "vit": TouchRefinerConfig(),
    "mlp": TouchRefinerConfig(encoder="mlp"),
    "cnn": TouchRefinerConfig(encoder="cnn"),
    "deep": TouchRefinerConfig(encoder_depth=2, finger_depth=0, patch_rows=6, patch_columns=5),
    "absolute": TouchRefinerConfig(target="absolute"),
    "absolute cnn": TouchRefinerConfig(target="absolute", encoder="cnn"),
}
NUM = 3


def refiner(config: TouchRefinerConfig) -> TouchRefiner:
    torch.manual_seed(0)
    model = TouchRefiner(config)
    with torch.no_grad():
        for head in (model.rotation, model.translation):
            torch.nn.init.normal_(head.get_parameter("2.weight"))
    return model.eval()


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    taxels, joints = (torch.rand(2, NUM, *shape, generator=generator) for shape in ((5, 11, 9), (11,)))
    return taxels[0], joints[0], taxels[1], joints[1]


@pytest.mark.parametrize("name", list(CONFIGS))
def test_it_says_twelve_numbers_and_starts_without_a_motion(name: str) -> None:
    torch.manual_seed(0)
    model = TouchRefiner(CONFIGS[name]).eval()
    said = model(*inputs())
    assert said.shape == (NUM, 2 if "absolute" in name else 1, 12)
    D = increments(model.numbers(said).detach().numpy())
    assert D.shape == (NUM, 4, 4)
    assert np.abs(D - np.eye(4)).max() < 5e-3
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 3e5 < num_parameters < 2.5e6
    assert 4 * num_parameters < 15e6, "bytes of the file"


@pytest.mark.parametrize("name", list(CONFIGS))
def test_everything_that_it_should_read_matters(name: str) -> None:
    model, given, other = refiner(CONFIGS[name]), inputs(0), inputs(1)
    said = model(*given)
    for index in range(4):
        changed = model(*(other[i] if i == index else given[i] for i in range(4)))
        is_read = name != "cnn" or index != 3  # version 1 of the paper knows no joints of the goal
        assert torch.equal(changed, said) != is_read, index


@pytest.mark.parametrize("encoder", ["vit", "mlp", "cnn"])
def test_what_is_cut_does_not_matter(encoder: str) -> None:
    base = replace(CONFIGS["vit"], encoder=encoder)
    given, other = inputs(0), inputs(1)
    blind = refiner(replace(base, inputs="no_touch"))
    assert torch.equal(blind(*given), blind(other[0], given[1], other[2], given[3]))
    assert not torch.equal(blind(*given), blind(given[0], other[1], given[2], given[3]))
    limp = refiner(replace(base, inputs="no_joints"))
    assert torch.equal(limp(*given), limp(given[0], other[1], given[2], other[3]))
    assert not torch.equal(limp(*given), limp(other[0], given[1], given[2], given[3]))
    two = refiner(replace(base, fingers=(0, 2)))
    unread, read = given[0].clone(), given[0].clone()
    unread[:, [1, 3, 4]] = other[0][:, [1, 3, 4]]
    read[:, 2] = other[0][:, 2]
    assert torch.equal(two(*given), two(unread, *given[1:]))
    assert not torch.equal(two(*given), two(read, *given[1:]))


def test_an_absolute_estimate_looks_at_one_grasp_alone() -> None:
    model, (a, b, c, d) = refiner(CONFIGS["absolute"]), inputs()
    said, swapped = model(a, b, c, d), model(c, d, a, b)
    torch.testing.assert_close(said[:, 0], swapped[:, 1])
    torch.testing.assert_close(said[:, 1], swapped[:, 0])
    D, back = (increments(model.numbers(x).detach().numpy()) for x in (said, swapped))
    np.testing.assert_allclose(compose(D, back), np.broadcast_to(np.eye(4), D.shape), atol=1e-5)


@pytest.mark.parametrize(("tangent", "loss"), [([3e-3, 4e-3, 0, 0, 0, 0], 1 / 12), ([0, 0, 0, 0, 0.0873, 0], 1 / 12)])
def test_five_millimetres_cost_what_five_degrees_cost(tangent: list[float], loss: float) -> None:
    model = TouchRefiner(CONFIGS["vit"])
    numbers = torch.from_numpy(increment_numbers(se3_exp(tangent)))
    assert model.normalised(numbers).square().mean().item() == pytest.approx(loss, rel=5e-3)
    torch.testing.assert_close(model.numbers(model.normalised(numbers)), numbers)


def test_numbers_become_the_nearest_motion() -> None:
    rng = np.random.default_rng(0)
    poses = se3_exp(rng.uniform(-0.2, 0.2, (6, 6)))
    np.testing.assert_allclose(unpack(increment_numbers(poses)), poses, atol=1e-6)
    bent = unpack(increment_numbers(poses) + rng.normal(0, 0.02, (6, 12)).astype(np.float32))
    inverse(bent)  # raises unless it is a rigid transform
    turned = so3_log(np.swapaxes(bent[:, :3, :3], -1, -2) @ poses[:, :3, :3])
    assert np.linalg.norm(turned, axis=1).max() < math.radians(6)
    pair = increment_numbers(poses).reshape(3, 2, 12)
    np.testing.assert_allclose(increments(pair), compose(poses[::2], inverse(poses[1::2])), atol=1e-6)
    with pytest.raises(ValueError, match="says 1 or 2 transforms; got 3"):
        increments(increment_numbers(poses).reshape(2, 3, 12))
    with pytest.raises(ValueError, match="must be finite"):
        increments(np.full((1, 1, 12), np.nan))


def test_joints_are_standardised_inside() -> None:
    model, (a, b, c, d) = refiner(CONFIGS["vit"]), inputs()
    said = model(a, b, c, d)
    mean, scale = np.linspace(-1, 1, 11), np.linspace(0.1, 0.5, 11)
    model.set_joint_statistics(mean, scale)
    moved = [x * torch.from_numpy(scale).float() + torch.from_numpy(mean).float() for x in (b, d)]
    torch.testing.assert_close(model(a, moved[0], c, moved[1]), said, atol=1e-4, rtol=1e-4)
    assert {"joint_mean", "joint_scale", "number_mean", "number_scale"} <= set(model.state_dict())
    with pytest.raises(ValueError, match="with scales above 0"):
        model.set_joint_statistics(mean, 0 * scale)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "resnet"}, "encoder is 'resnet'; known: vit, mlp, cnn"),
        ({"inputs": "none"}, "inputs is 'none'; known: all, no_touch, no_joints"),
        ({"width": 0}, "width must be 1 or more; got 0"),
        ({"patch_width": 40}, "patch_width must be a multiple of 32; got 40"),
        ({"fingers": (0, 5)}, r"fingers must be different numbers in 0\.\.4, one or more; got \(0, 5\)"),
        ({"fingers": ()}, "one or more"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TouchRefinerConfig(**fields)  # pyright: ignore[reportArgumentType]
