"""The peer is a second way to the same numbers; every row's parity depends on that."""

import pytest
import torch
from torch import Tensor

from bench.measure.peer import Peer
from bench.measure.request import Geometry, Request, make_request
from bench.measure.rows import Contender, reference_actions
from bench.measure.weights import random_model
from cerebella.models.config import MaskVariant, preset
from cerebella.models.vla import VLA

CPU = torch.device("cpu")


@torch.inference_mode()
def actions_of(model: VLA | Peer, request: Request, num_flow_steps: int | None = None) -> Tensor:
    return Contender("", model, CPU, 0, 4.0, num_flow_steps=num_flow_steps).infer(request)


@pytest.mark.parametrize("variant", ["causal", "band", "lambda", "full"])
def test_the_peer_agrees_with_the_readable_model_under_every_rule(variant: MaskVariant) -> None:
    config = preset("micro").with_mask(variant)
    model = random_model(config, torch.float32)
    request = make_request(config, Geometry.parse("1x32+20"), batch_size=2)
    expected = actions_of(model, request)
    assert 0.1 < float(expected.std()) < 10
    for word_head in (True, False):
        assert torch.allclose(actions_of(Peer(model, word_head), request), expected, atol=1e-5)


def test_it_repeats_shared_heads_and_takes_other_step_counts() -> None:
    base = preset("micro")
    brain = {**base.brain, "text_config": {**base.brain["text_config"], "num_key_value_heads": 2}}
    config = preset("micro", brain=brain, num_kv_heads=2)
    model = random_model(config, torch.float32)
    request = make_request(config, Geometry.parse("1x32+20"))
    for steps in (1, 3):
        assert torch.allclose(actions_of(Peer(model), request, steps), actions_of(model, request, steps), atol=1e-5)


def test_a_prefix_is_kept_bit_for_bit(model: VLA, request_64: Request) -> None:
    prefix, length = request_64.batch.action_prefix, request_64.batch.prefix_length
    assert prefix is not None
    assert length is not None
    num_rows = int(length[0])
    assert num_rows == 4
    assert torch.equal(actions_of(Peer(model), request_64)[:, :num_rows], prefix[:, :num_rows])


def test_it_owns_no_weights(request_64: Request) -> None:
    model = random_model(preset("micro"), torch.float32)
    peer = Peer(model)
    before = actions_of(peer, request_64)
    with torch.no_grad():
        model.cerebellum.sink.weight += 1.0
    changed = actions_of(peer, request_64)
    assert float((changed - before).abs().max()) > 1e-3


def test_parity_of_rounded_weights_is_measured_in_float32() -> None:
    rounded = random_model(preset("micro"), torch.bfloat16)
    request = make_request(rounded.config, Geometry.parse("1x32+20"), dtype=torch.bfloat16)
    exact = reference_actions(rounded, request)
    assert exact.dtype == torch.float32
    assert next(rounded.parameters()).dtype == torch.bfloat16
    error = (actions_of(Peer(rounded), request).float() - exact).abs().max()
    assert 1e-4 < float(error) < 0.2
