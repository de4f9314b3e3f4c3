"""Worlds by name, at both ends of what random hands are drawn from."""

import pytest

from cerebella.touch.worlds import PARAMETERS, make_world, parameter_ranges


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("end", [0, 1])
def test_every_parameter_of_a_world_is_one(name: str, end: int) -> None:
    pytest.importorskip("mujoco")
    assert make_world(name, {key: limits[end] for key, limits in parameter_ranges(name).items()}).name == name
    assert make_world(name, {}).name == name


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match=r"unknown world 'foam'; known: skin, spheres"):
        make_world("foam", {})
    with pytest.raises(ValueError, match=r"the world 'skin' has no wetness; it has: stiffness_n_per_m, "):
        make_world("skin", {"wetness": 1.0})
