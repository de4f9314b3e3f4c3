"""Golden vectors: do our model and its fast engine compute what the released architecture computes, from pixels to losses?

Files `PREFIX.config.json`, `PREFIX.weights.safetensors`, `PREFIX.data.safetensors` and, optionally,
`PREFIX.train.safetensors` hold a tiny random model under the released names, its inputs, and what an independent
implementation computed from them in float32.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models import brain, checkpoint, flow
from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA
from cerebella.policies.engine import Engine

TOLERANCE = 1e-4
LEAST_COSINE = 0.999
"""Of sampled actions in bfloat16 to those in float32."""


@dataclass(frozen=True)
class GoldenReport:
    """Largest absolute error per quantity.

    Args:
        prefix: which vectors. errors: quantity -> error in float32; a trained-prefix quantity is named `pP.<quantity>`,
            one of the engine `engine.<quantity>`.
        tolerance: the largest error that passes. A number that is not finite never passes.
        cosines: `readable.actions`, `engine.actions`: bfloat16 actions against the stored float32 ones.
    """

    prefix: str
    errors: dict[str, float]
    tolerance: float
    cosines: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Every quantity within tolerance, every cosine above `LEAST_COSINE`."""
        is_exact = all(error <= self.tolerance for error in self.errors.values())
        return is_exact and all(cosine > LEAST_COSINE for cosine in self.cosines.values())

    def to_json(self) -> str:
        """One line; an error that is not finite is null."""
        errors = {name: error if math.isfinite(error) else None for name, error in self.errors.items()}
        finite = [error for error in errors.values() if error is not None]
        worst = max(finite) if len(finite) == len(errors) else None
        fields = {"prefix": self.prefix, "passed": self.passed, "tolerance": self.tolerance, "largest_error": worst}
        cosines = {name: cosine if math.isfinite(cosine) else None for name, cosine in self.cosines.items()}
        return json.dumps({**fields, "errors": errors, "least_cosine": LEAST_COSINE, "bfloat16_cosines": cosines})


def verify_golden(prefix: Path, tolerance: float = TOLERANCE) -> GoldenReport:
    """Recompute everything that the files of `prefix` hold, in float32 on the CPU; the actions in bfloat16, too.

    Inference is checked under the attention rule `causal`, offset 0 (released inference code); sampling with a prefix,
    velocity and losses under `band`, window 4, offset 10 (released post-training code).

    Args:
        prefix: path without the endings, e.g. `tests/golden/xr0-tiny`.

    Raises:
        FileNotFoundError: config, weights or data are missing (names the file).
        ValueError: the weights do not fit the config, a vector is missing or of another shape (names it), or the tolerance
            is no number.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be 0 or more (absolute error); got {tolerance}")
    config_file, weights_file, data_file = (
        _existing(prefix, ending) for ending in ("config.json", "weights.safetensors", "data.safetensors")
    )
    config = checkpoint.read_released_config(config_file)
    data = _vectors(data_file)
    model = _model(config, weights_file)
    train_file = _file(prefix, "train.safetensors")
    try:
        batch = _batch(config, data)
        with torch.no_grad():
            errors = _inference_errors(model, batch, data)
            errors |= _engine_errors(Engine(model, horizon=data["noise"].shape[1]), batch, data)
            if train_file.is_file():
                trained = _model(config.with_mask("band"), weights_file)
                vectors = _vectors(train_file)
                errors |= _training_errors(trained, batch, vectors)
                errors |= _engine_prefix_errors(Engine(trained, horizon=data["noise"].shape[1]), batch, vectors)
            cosines = _bfloat16_cosines(model, batch, data)
    except KeyError as error:
        raise ValueError(f"golden vectors {prefix} lack {error}") from error
    return GoldenReport(str(prefix), errors, tolerance, cosines)


def _file(prefix: Path, ending: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{ending}")


def _existing(prefix: Path, ending: str) -> Path:
    path = _file(prefix, ending)
    if not path.is_file():
        raise FileNotFoundError(f"golden vectors {prefix}: the file {path} is missing")
    return path


def _vectors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def _model(config: ModelConfig, weights_file: Path) -> VLA:
    model = VLA(config).eval()
    checkpoint.load_weights(model, weights_file)
    return model


def _batch(config: ModelConfig, data: dict[str, Tensor]) -> Batch:
    return Batch(
        input_ids=data["input_ids"],
        attention_mask=data["attention_mask"],
        mm_token_type_ids=(data["input_ids"] == config.brain["image_token_id"]).long(),
        pixel_values=data["pixel_values"],
        image_grid_thw=data["image_grid_thw"],
        state=data["state"],
        action_mask=data["action_mask"],
    )


def _inference_errors(model: VLA, batch: Batch, data: dict[str, Tensor]) -> dict[str, float]:
    """Positions and K/V of every brain layer (on real tokens: padding is never read), then the sampled actions."""
    is_valid = batch.attention_mask.bool()
    num_brain_layers = model.config.brain["text_config"]["num_hidden_layers"]
    positions = brain.position_ids(model.brain, batch)
    errors = {"position_ids": _largest_error("position_ids", positions[:, is_valid], data["position_ids"][:, is_valid])}
    everything = brain.encode(model.brain, batch, num_brain_layers)
    for layer in range(num_brain_layers):
        for name, tensor in (("key", everything.keys[layer]), ("value", everything.values[layer])):
            expected = data[f"{name}.{layer}"].transpose(1, 2)[is_valid]
            quantity = f"{name}.{layer}"
            errors[quantity] = _largest_error(quantity, tensor.transpose(1, 2)[is_valid], expected)
    actions = model.sample(model.encode(batch), batch.state, data["noise"], batch.action_mask)
    return {**errors, "actions": _largest_error("actions", actions, data["actions"])}


def _training_errors(model: VLA, batch: Batch, data: dict[str, Tensor]) -> dict[str, float]:
    """Sampling behind a prefix, velocity and both losses, for every prefix length in the file."""
    context = model.encode(batch)
    target_actions, noise, flow_time = data["target_actions"], data["noise"], data["flow_time"]
    target = flow.target_velocity(noise, target_actions)
    errors: dict[str, float] = {}
    for length in _prefix_lengths(data):
        prefix_length = torch.full((len(batch),), length)
        sampled = model.sample(context, batch.state, noise, batch.action_mask, target_actions, prefix_length)
        noisy = flow.join_prefix(target_actions, flow.interpolate(noise, target_actions, flow_time), prefix_length)
        velocity = model.velocity(context, batch.state, noisy, flow_time, batch.action_mask, prefix_length)
        weight = flow.error_weight(sampled, target_actions, batch.action_mask, prefix_length)
        losses = flow.flow_losses(velocity, target, batch.action_mask, weight, prefix_length)
        computed = {
            "sampled": sampled,
            "velocity": velocity,
            "loss": losses.total,
            "loss_mse": losses.mse,
            "loss_freq": losses.frequency,
        }
        for name, tensor in computed.items():
            quantity = f"p{length}.{name}"
            errors[quantity] = _largest_error(quantity, tensor, data[quantity])
    return errors


def _engine_errors(engine: Engine, batch: Batch, data: dict[str, Tensor]) -> dict[str, float]:
    """The engine's K/V (it keeps only the layers that the cerebellum reads) on real tokens, then its sampled actions."""
    is_valid, length = batch.attention_mask.bool(), batch.attention_mask.shape[1]
    config = engine.model_config
    first = config.brain["text_config"]["num_hidden_layers"] - config.num_layers
    context = engine.encode(batch)
    errors: dict[str, float] = {}
    for kind, tensors in (("key", context.session.keys), ("value", context.session.values)):
        for index, tensor in enumerate(tensors):
            heads = tensor[:, :: context.session.num_repeats, :length].transpose(1, 2)[is_valid]
            expected = data[f"{kind}.{first + index}"].transpose(1, 2)[is_valid]
            quantity = f"engine.{kind}.{first + index}"
            errors[quantity] = _largest_error(quantity, heads, expected)
    actions = engine.sample(context, batch.state, data["noise"], batch.action_mask)
    return {**errors, "engine.actions": _largest_error("engine.actions", actions, data["actions"])}


def _engine_prefix_errors(engine: Engine, batch: Batch, data: dict[str, Tensor]) -> dict[str, float]:
    """The engine's sampling behind every prefix length in the file, all on one context."""
    context = engine.encode(batch)
    target_actions, noise = data["target_actions"], data["noise"]
    errors: dict[str, float] = {}
    for length in _prefix_lengths(data):
        prefix_length = torch.full((len(batch),), length)
        sampled = engine.sample(context, batch.state, noise, batch.action_mask, target_actions, prefix_length)
        quantity = f"engine.p{length}.sampled"
        errors[quantity] = _largest_error(quantity, sampled, data[f"p{length}.sampled"])
    return errors


def _bfloat16_cosines(model: VLA, batch: Batch, data: dict[str, Tensor]) -> dict[str, float]:
    """How far actions turn when everything is computed in bfloat16. Casts `model`."""
    model = model.to(torch.bfloat16)
    state, noise, mask = (x.to(torch.bfloat16) for x in (batch.state, data["noise"], batch.action_mask))
    engine = Engine(model, horizon=noise.shape[1])
    sampled = {
        "readable.actions": model.sample(model.encode(batch), state, noise, mask),
        "engine.actions": engine.sample(engine.encode(batch), state, noise, mask),
    }
    expected = data["actions"].flatten()
    return {
        name: float(torch.nn.functional.cosine_similarity(actions.float().flatten(), expected, dim=0))
        for name, actions in sampled.items()
    }


def _prefix_lengths(data: dict[str, Tensor]) -> list[int]:
    """The prefix lengths that a file of training vectors holds."""
    return sorted(int(name[1:].split(".")[0]) for name in data if name.endswith(".loss"))


def _largest_error(quantity: str, computed: Tensor, expected: Tensor) -> float:
    if computed.numel() != expected.numel():
        raise ValueError(
            f"golden vector {quantity!r} is {list(expected.shape)}; the model gives {list(computed.shape)}"
        )
    return float((computed - expected.view_as(computed)).abs().max())
