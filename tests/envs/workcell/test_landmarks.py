import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.envs.workcell.landmarks import Landmarks

LANDMARKS = Landmarks(
    views=("base", "left_wrist"),
    size_px=(48, 64),
    names=np.array(["a", "b", "c"]),
    kind=np.array(["bin", "cube", "long bar"]),
    colour=np.array(["white", "red", "blue"]),
    pixel=np.random.default_rng(0).random((4, 2, 3, 2), dtype=np.float32),
    is_inside=np.random.default_rng(1).random((4, 2, 3)) < 0.5,
    named=np.array([[False, True, True]] * 3 + [[False] * 3]),
    next=np.array([1, 2, 2, -1], dtype=np.int16),
)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    LANDMARKS.save(one)
    read = Landmarks.load(one)
    for field in fields(Landmarks):
        wanted, found = getattr(LANDMARKS, field.name), getattr(read, field.name)
        np.testing.assert_array_equal(found, wanted)
        assert getattr(found, "dtype", None) == getattr(wanted, "dtype", None)
    assert (read.views, read.size_px) == (LANDMARKS.views, LANDMARKS.size_px)
    read.save(other)
    assert one.read_bytes() == other.read_bytes()


def test_an_empty_scene_is_one_too(tmp_path: Path) -> None:
    empty = replace(
        LANDMARKS,
        names=LANDMARKS.names[:0],
        kind=LANDMARKS.kind[:0],
        colour=LANDMARKS.colour[:0],
        pixel=LANDMARKS.pixel[:, :, :0],
        is_inside=LANDMARKS.is_inside[:, :, :0],
        named=LANDMARKS.named[:, :0],
        next=np.full(4, -1, dtype=np.int16),
    )
    empty.save(tmp_path / "empty.npz")
    assert Landmarks.load(tmp_path / "empty.npz").pixel.shape == (4, 2, 0, 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pixel": LANDMARKS.pixel[..., 0]}, r"pixel must be of kind 'f' and shape \(4, 2, 3, 2\)"),
        ({"named": LANDMARKS.named[:2]}, r"named must be of kind 'b' and shape \(4, 3\)"),
        ({"colour": LANDMARKS.colour[:1]}, "colour"),
        ({"next": np.array([0, 1, 2, 3], dtype=np.int16)}, r"next must be in -1\.\.2; got 0\.\.3"),
    ],
)
def test_what_does_not_belong_together_is_refused(wrong: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(LANDMARKS, **wrong)  # pyright: ignore[reportArgumentType]


def test_another_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", pixel=LANDMARKS.pixel)
    with pytest.raises(ValueError, match="no landmarks: colour, is_inside"):
        Landmarks.load(tmp_path / "x.npz")


def test_reading_needs_no_simulator() -> None:
    code = "import sys; sys.modules['mujoco'] = None; import cerebella.envs.workcell.landmarks"
    subprocess.run([sys.executable, "-c", code], check=True)
