import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.randomisation import NONE, RANDOMISATIONS, Randomisation
from cerebella.envs.workcell.scene import room_spec

FIELDS = ("light_diffuse", "light_dir", "geom_rgba", "geom_friction", "cam_pos", "cam_quat")


@pytest.fixture
def model():
    return room_spec().compile()


def test_none_changes_nothing(model) -> None:
    before = {name: getattr(model, name).copy() for name in FIELDS}
    assert NONE.apply(model, np.random.default_rng(0)) == 0
    for name, array in before.items():
        np.testing.assert_allclose(getattr(model, name), array, atol=1e-7)


def test_everything_stays_within_its_range(model) -> None:
    wide = RANDOMISATIONS["wide"]
    original = room_spec().compile()
    delays = set()
    for seed in range(40):
        for name in FIELDS:
            getattr(model, name)[...] = getattr(original, name)
        delays.add(wide.apply(model, np.random.default_rng(seed)))
        factor = model.geom_friction[:, 0] / original.geom_friction[:, 0]
        assert np.ptp(factor) < 1e-9
        assert abs(factor[0] - 1) <= wide.friction
        moved = np.abs(model.cam_pos - original.cam_pos)
        assert 0 < moved.max() <= np.sqrt(3) * wide.camera_position_m
        assert np.abs(model.light_diffuse / original.light_diffuse - 1).max() <= wide.light + 1e-6
        changed = np.abs(model.geom_rgba - original.geom_rgba)
        assert changed[:3].max() <= wide.surface_colour + 1e-6
        assert not changed[3:].any()
        np.testing.assert_allclose(np.linalg.norm(model.cam_quat, axis=1), 1.0, atol=1e-9)
    assert delays == {0, 1, 2}


def test_as_many_draws_whatever_the_ranges_are(model) -> None:
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    NONE.apply(model, first)
    RANDOMISATIONS["wide"].apply(model, second)
    assert first.random() == second.random()


def test_bad_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"friction must be 0 or more; got -0\.1"):
        Randomisation(friction=-0.1)
    with pytest.raises(ValueError, match=r"light is a share below 1; got 1\.5"):
        Randomisation(light=1.5)
