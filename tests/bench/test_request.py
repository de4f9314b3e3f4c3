"""Geometries as they are spelled, and requests that fit the model."""

import pytest
import torch

from bench.measure.request import Geometry, make_request
from cerebella.models.config import preset


@pytest.mark.parametrize("text", ["2x224", "3x320x256+85", "1x96x64"])
def test_a_geometry_is_what_it_says(text: str) -> None:
    assert str(Geometry.parse(text)) == text


@pytest.mark.parametrize("text", ["224", "2x", "2x224+", "2 x 224", "0x224", "2x224+4"])
def test_other_spellings_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"geometry|images"):
        Geometry.parse(text)


def test_sides_must_be_whole_image_tokens() -> None:
    with pytest.raises(ValueError, match="multiples of 32 px"):
        Geometry.parse("2x240").num_tokens(preset("xr0"))


def test_a_request_holds_what_its_geometry_says() -> None:
    config, geometry = preset("micro"), Geometry.parse("2x96x64+30")
    request = make_request(config, geometry, batch_size=3, dtype=torch.bfloat16)
    batch = request.batch
    assert batch.input_ids.shape == (3, geometry.num_tokens(config)) == (3, 2 * 24 + 30)
    assert int(batch.mm_token_type_ids.sum()) == 3 * 2 * 24
    assert batch.image_grid_thw is not None
    assert batch.image_grid_thw.tolist() == [[1, 8, 12]] * 6
    assert batch.pixel_values is not None
    assert batch.pixel_values.shape == (6 * 96, 3 * 2 * 8 * 8)
    assert request.noise.shape == (3, config.horizon, 32)
    assert request.noise.dtype == batch.state.dtype == torch.bfloat16
    again = make_request(config, geometry, batch_size=3, dtype=torch.bfloat16)
    assert torch.equal(again.noise, request.noise)
