import numpy as np
import pytest
from PIL import Image

from cerebella.processing.noise import released_noise_seed

BASE = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
WRIST = Image.fromarray(np.full((2, 3, 3), 9, dtype=np.uint8))
LIBERO = {
    "task_id": "libero_all",
    "state": np.linspace(-1, 1, 32),
    "base": BASE,
    "wrist_left": WRIST,
    "language": "Pick up the black bowl",
}
SIMPLER = {
    "task_id": "bridge_delta",
    "state": np.linspace(-1, 1, 32)[None, None].astype(np.float32),
    "language": "Put the “spoon” on the towel.\n",
    "base": BASE,
}


@pytest.mark.parametrize(
    ("request_fields", "seed"),
    [
        (LIBERO, 3564469999),
        (SIMPLER, 1985111453),
        ({"b": [1, 2.5, None, True], "a": {"y": "é", "x": -3}}, 2224872812),
    ],
)
def test_seeds_are_those_of_the_released_clients(request_fields: dict[str, object], seed: int) -> None:
    """The numbers come from running `hash_data_to_seed` of the released eval_libero/main.py on the same requests."""
    assert released_noise_seed(request_fields) == seed
    assert released_noise_seed(dict(reversed(request_fields.items()))) == seed


def test_every_part_of_a_request_counts_and_an_unknown_type_is_named() -> None:
    changed = [
        {**LIBERO, "state": np.linspace(-1, 1, 32, dtype=np.float32)},
        {**LIBERO, "state": np.linspace(-1, 1, 32)[None]},
        {**LIBERO, "base": BASE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)},
        {**LIBERO, "language": "Pick up the black bowl."},
    ]
    seeds = {released_noise_seed(fields) for fields in (LIBERO, *changed)}
    assert len(seeds) == 5
    with pytest.raises(TypeError, match="got bytes: b'x'"):
        released_noise_seed({"state": b"x"})
