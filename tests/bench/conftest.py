"""A small model and a request for it."""

import pytest
import torch

from bench.measure.request import Geometry, Request, make_request
from bench.measure.weights import random_model
from cerebella.models.config import preset
from cerebella.models.vla import VLA


@pytest.fixture(scope="session")
def model() -> VLA:
    return random_model(preset("micro"), torch.float32)


@pytest.fixture(scope="session")
def request_64(model: VLA) -> Request:
    return make_request(model.config, Geometry.parse("2x64+20"))
