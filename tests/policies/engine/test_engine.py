"""Fast equals readable: the engine against `VLA`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.vla import VLA
from cerebella.policies.engine import Engine, EngineConfig

from .scene import make_batch, small_config, small_model

TWO_VIEWS = [[5, (4, 6), 2, (4, 6), 9], [5, (4, 6), 2, (4, 6), 4]]
MANY_SIZES = [[3, (8, 4), 2], [1, (2, 2), 1, (6, 8), 7], [6]]
NO_PICTURE = [[6], [9]]


@torch.no_grad()
def _readable(model: VLA, batch: Batch, **inputs: Any) -> Tensor:
    return model.sample(model.encode(batch), batch.state, action_mask=batch.action_mask, **inputs)


def _fast(engine: Engine, batch: Batch, **inputs: Any) -> Tensor:
    return engine.sample(engine.encode(batch), batch.state, action_mask=batch.action_mask, **inputs)


def _noise(batch: Batch, seed: int = 1) -> Tensor:
    return torch.randn(batch.action_mask.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", ["causal", "band", "lambda", "full"])
@pytest.mark.parametrize("samples", [TWO_VIEWS, MANY_SIZES, NO_PICTURE], ids=["two views", "many sizes", "no picture"])
def test_actions_equal_those_of_the_readable_model(variant: Any, samples: Any) -> None:
    config = small_config().with_mask(variant, window=2)
    model = small_model(config)
    batch = make_batch(config, samples)
    inputs = {
        "noise": _noise(batch),
        "action_prefix": _noise(batch, seed=2),
        "prefix_length": torch.tensor([0, 3, 5][: len(batch)]),
    }
    expected = _readable(model, batch, **inputs)
    actual = _fast(Engine(model, config=EngineConfig(bucket=16)), batch, **inputs)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)
    for row, length in enumerate(inputs["prefix_length"].tolist()):
        assert torch.equal(actual[row, :length], inputs["action_prefix"][row, :length])


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_each_context_head_serves_its_neighbours(num_kv_heads: int) -> None:
    config = small_config(num_kv_heads)
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    noise = _noise(batch)
    actual = _fast(Engine(model), batch, noise=noise)
    torch.testing.assert_close(actual, _readable(model, batch, noise=noise), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("num_flow_steps", [1, 2, 5])
def test_any_number_of_flow_steps_any_horizon(num_flow_steps: int) -> None:
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS, horizon=9)
    noise = _noise(batch)
    actual = _fast(Engine(model, horizon=9), batch, noise=noise, num_flow_steps=num_flow_steps)
    expected = _readable(model, batch, noise=noise, num_flow_steps=num_flow_steps)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)


def test_bfloat16_stays_close() -> None:
    config = small_config()
    batch = make_batch(config, TWO_VIEWS)
    noise = _noise(batch)
    expected = _readable(small_model(config), batch, noise=noise)
    actual = _fast(Engine(small_model(config).to(torch.bfloat16)), batch, noise=noise)
    assert actual.dtype == torch.bfloat16
    assert torch.cosine_similarity(actual.float().flatten(), expected.flatten(), dim=0) > 0.999


def test_neither_padding_nor_the_neighbour_changes_an_answer() -> None:
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    noise = _noise(batch)
    together = _fast(Engine(model, config=EngineConfig(bucket=64)), batch, noise=noise)
    assert batch.pixel_values is not None
    first = replace(make_batch(config, TWO_VIEWS[:1]), pixel_values=batch.pixel_values[:48], state=batch.state[:1])
    first = replace(first, input_ids=batch.input_ids[:1, : first.input_ids.shape[1]])
    alone = _fast(Engine(model, config=EngineConfig(bucket=1)), first, noise=noise[:1])
    torch.testing.assert_close(together[:1], alone, atol=2e-5, rtol=1e-5)


def test_a_context_outlives_later_encodes() -> None:
    config = small_config()
    model = small_model(config)
    one, two = (make_batch(config, TWO_VIEWS, seed=seed) for seed in (0, 9))
    noise = _noise(one)
    engine = Engine(model)
    first = engine.encode(one)
    second = engine.encode(two)
    for context, batch in ((first, one), (second, two), (first, one), (first, one)):
        actual = engine.sample(context, batch.state, noise, batch.action_mask)
        torch.testing.assert_close(actual, _readable(model, batch, noise=noise), atol=2e-5, rtol=1e-5)


def test_replanning_on_a_kept_context_sees_the_fresh_state_and_prefix() -> None:
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    engine, noise = Engine(model), _noise(batch)
    context = engine.encode(batch)
    engine.sample(context, batch.state, noise, batch.action_mask)
    state, prefix, lengths = batch.state + 1, _noise(batch, seed=5), torch.tensor([2, 4])
    actual = engine.sample(context, state, noise, batch.action_mask, prefix, lengths)
    with torch.no_grad():
        expected = model.sample(model.encode(batch), state, noise, batch.action_mask, prefix, lengths)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)


def test_looking_ahead_changes_no_number() -> None:
    config = small_config()
    model = small_model(config)
    one, two, three = (make_batch(config, TWO_VIEWS, seed=seed) for seed in (0, 9, 17))
    noise = _noise(one)
    engine = Engine(model)
    context = engine.encode(one)
    engine.look_ahead(two)
    actual = [engine.sample(context, one.state, noise, one.action_mask), _fast(engine, two, noise=noise)]
    engine.look_ahead(two)
    actual += [_fast(engine, three, noise=noise), _fast(engine, two, noise=noise)]
    for actions, batch in zip(actual, (one, two, three, two), strict=True):
        torch.testing.assert_close(actions, _readable(model, batch, noise=noise), atol=2e-5, rtol=1e-5)


def test_threads_wait_for_each_other() -> None:
    config = small_config()
    model = small_model(config)
    batches = [make_batch(config, TWO_VIEWS, seed=seed) for seed in range(4)]
    noise = _noise(batches[0])
    expected = [_readable(model, batch, noise=noise) for batch in batches]
    engine = Engine(model)
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda batch: _fast(engine, batch, noise=noise), batches * 8))
    for actions, wanted in zip(actual, expected * 8, strict=True):
        torch.testing.assert_close(actions, wanted, atol=2e-5, rtol=1e-5)


def test_fused_weights_are_shared_with_the_readable_model() -> None:
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    noise = _noise(batch)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = _readable(model, batch, noise=noise)
    engine = Engine(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(_readable(model, batch, noise=noise), expected)
    ours = {
        tensor.untyped_storage().data_ptr()
        for part in (engine.vision, engine.language, engine.action)
        for tensor in part.parameters()
    }
    theirs = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    assert ours <= theirs
    with torch.no_grad():
        model.get_parameter("brain.model.language_model.layers.1.mlp.up_proj.weight").mul_(3.0)
    actual = _fast(engine, batch, noise=noise)
    torch.testing.assert_close(actual, _readable(model, batch, noise=noise), atol=2e-5, rtol=1e-5)
    assert not torch.allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize("compile_", ["layers", "whole"])
def test_no_part_breaks_the_graph(compile_: Any) -> None:
    torch._dynamo.reset()
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    inputs = {"noise": _noise(batch), "action_prefix": _noise(batch, 2), "prefix_length": torch.tensor([1, 4])}
    engine = Engine(model, config=EngineConfig(compile=compile_, backend="aot_eager"))
    actual = _fast(engine, batch, **inputs)
    torch.testing.assert_close(actual, _readable(model, batch, **inputs), atol=2e-5, rtol=1e-5)
    assert torch._dynamo.utils.counters["graph_break"] == {}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_kernels_agree() -> None:
    torch._dynamo.reset()
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    noise = _noise(batch)
    actual = _fast(Engine(model, config=EngineConfig(compile="layers")), batch, noise=noise)
    torch.testing.assert_close(actual, _readable(model, batch, noise=noise), atol=2e-5, rtol=1e-5)


def test_only_so_many_layouts_are_kept() -> None:
    config = small_config()
    model = small_model(config)
    engine = Engine(model, config=EngineConfig(bucket=4, max_layouts=2))
    noise = torch.zeros(1, config.horizon, config.action_dim)
    expected = []
    for length in (4, 8, 12, 4):
        batch = make_batch(config, [[length]])
        expected.append((batch, _fast(engine, batch, noise=noise)))
        assert len(engine._sessions) <= 2
    assert torch.equal(expected[0][1], expected[3][1])


def test_wrong_use_is_named() -> None:
    config = small_config()
    model, batch = small_model(config), make_batch(config, TWO_VIEWS)
    engine, noise = Engine(model), _noise(batch)
    context = engine.encode(batch)
    with pytest.raises(ValueError, match=r"state must be float\[2, 1, 6\]; got \[2, 6\]"):
        engine.sample(context, batch.state[:, 0], noise, batch.action_mask)
    with pytest.raises(ValueError, match=r"noise must be float\[2, 6, 5\]; got \[2, 5, 5\]"):
        engine.sample(context, batch.state, noise[:, 1:], batch.action_mask)
    with pytest.raises(ValueError, match=r"prefix_length must lie in 0\.\.5"):
        engine.sample(context, batch.state, noise, batch.action_mask, noise, torch.tensor([0, 6]))
    with pytest.raises(ValueError, match="there is no action_prefix"):
        engine.sample(context, batch.state, noise, batch.action_mask, None, torch.tensor([0, 1]))
    for steps in (0, 2.5):
        with pytest.raises(ValueError, match=f"num_flow_steps must be an integer of 1 or more; got {steps}"):
            engine.sample(context, batch.state, noise, batch.action_mask, num_flow_steps=steps)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="action_prefix needs prefix_length"):
        engine.sample(context, batch.state, noise, batch.action_mask, noise)
    with pytest.raises(ValueError, match="another engine: encode again"):
        Engine(model).sample(context, batch.state, noise, batch.action_mask)
    with pytest.raises(ValueError, match="horizon must be an integer of 1 or more rows; got 0"):
        Engine(model, 0)
    with pytest.raises(ValueError, match="another engine or layout"):
        Engine(model)._session(context.session.layout).sample(
            context, batch.state, noise, batch.action_mask, noise, torch.tensor([0, 0]), 5
        )
    with pytest.raises(ValueError, match="CUDA graphs need a GPU"):
        Engine(model, config=EngineConfig(use_graphs=True))
    with pytest.raises(ValueError, match="compile is 'all'"):
        EngineConfig(compile="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="bucket must be 1 or more; got 0"):
        EngineConfig(bucket=0)
