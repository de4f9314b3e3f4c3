"""Smaller numbers for the linear layers of a model, in place: start here.

scheme   weights                          inputs                                    what for
fp8      float8, one scale a row          float8, one calibrated scale a layer      speed on a GPU with float8 units
int8     int8, one scale a row            as they are                               memory
int4     int4, one scale per 32 weights   as they are                               memory

    tree = parts(engine)
    scales = calibrate(tree, lambda: policy.infer(observation, action_prefix))   # fp8 only; without CUDA graphs
    report = quantize(tree, "fp8", scales=scales)
    engine.forget_sessions()

Small models on a CPU gain nothing: products there widen the weights first. An engine shares its weights with the `VLA` that
it was made from: memory falls when that model is gone as well.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from cerebella.policies.engine.fp8 import Fp8Linear
from cerebella.policies.engine.weight_only import INT4_GROUP, quantize_weight

Scheme = Literal["fp8", "int8", "int4"]
KeepRule = Callable[[str, nn.Linear], str | None]
"""(name, layer) -> why this layer stays as it is, or None."""


class HasParts(Protocol):
    """The part of `Engine` that is quantised."""

    @property
    def vision(self) -> nn.Module: ...  # noqa: D102
    @property
    def language(self) -> nn.Module: ...  # noqa: D102
    @property
    def action(self) -> nn.Module: ...  # noqa: D102


@dataclass(frozen=True)
class QuantizationReport:
    """What `quantize` did.

    Args:
        quantized: names of the layers that were replaced. kept: name -> why it was not.
        bytes_before, bytes_after: of all tensors of the tree, shared storage counted once.
    """

    scheme: Scheme
    quantized: tuple[str, ...]
    kept: Mapping[str, str]
    bytes_before: int
    bytes_after: int

    def __str__(self) -> str:
        """One line."""
        before, after = self.bytes_before / 1e6, self.bytes_after / 1e6
        return (
            f"{self.scheme}: {len(self.quantized)} linear layers quantised, {len(self.kept)} kept; "
            f"{before:.1f} MB -> {after:.1f} MB"
        )


def parts(engine: HasParts) -> nn.ModuleDict:
    """The three parts of an engine as one tree; what changes in it changes in the engine."""
    return nn.ModuleDict({"vision": engine.vision, "language": engine.language, "action": engine.action})


def quantize(
    module: nn.Module, scheme: Scheme, keep: KeepRule | None = None, scales: Mapping[str, float] | None = None
) -> QuantizationReport:
    """Replace the linear layers of `module`, one after the other, so that never more than one weight exists twice.

    Args:
        module: a tree with its final type and on its final device. Layers that it shares with another tree through a
            common parent change there too.
        keep: which layers stay, None takes `keep_ends(module)`. Layers whose widths do not fit the kernels always stay.
        scales: fp8 only, from `calibrate` or `load_scales`; must name every layer that is replaced.

    Raises:
        ValueError: unknown scheme, a device or type that it cannot run on, something quantised already, a weight that is
            not finite, fp8 without a positive scale for each layer, nothing left to quantise, or torchao missing. The
            tree is unchanged then.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme is {scheme!r}; known: {', '.join(get_args(Scheme))}")
    if (scales is not None) != (scheme == "fp8"):
        raise ValueError(
            "fp8 needs input scales: run `calibrate` first" if scheme == "fp8" else f"{scheme} has no scales"
        )
    names, kept = _choose(module, scheme, keep_ends(module) if keep is None else keep)
    if scales is not None:
        _check_scales(scales, names)
    before = sum(_storages(module).values())
    for name in names:
        parent_name, _, leaf = name.rpartition(".")
        parent = module.get_submodule(parent_name)
        layer = parent.get_submodule(leaf)
        assert isinstance(layer, nn.Linear)
        setattr(parent, leaf, _replacement(layer, scheme, name, scales))
    return QuantizationReport(scheme, names, kept, before, sum(_storages(module).values()))


def keep_ends(module: nn.Module) -> KeepRule:
    """Keep what errors hurt most: the first and the last layer of every part, and everything at the rim of the action part.

    A part's layers are a `ModuleList` called `blocks` or `layers`; the vision part's `patch` comes before its first, the
    language part's `last_kv` is its last.
    """
    reasons: dict[str, str] = {}
    for name, child in module.named_modules():
        parent, _, leaf = name.rpartition(".")
        if leaf in ("blocks", "layers") and isinstance(child, nn.ModuleList):
            reasons[f"{name}.0."] = f"first of {name}"
            if not hasattr(module.get_submodule(parent), "last_kv"):
                reasons[f"{name}.{len(child) - 1}."] = f"last of {name}"
        elif leaf == "patch":
            reasons[f"{name}."] = "patch embedding"
        elif leaf == "last_kv":
            reasons[f"{name}."] = f"last layer of {parent}"

    def rule(name: str, _: nn.Linear) -> str | None:
        if name.startswith("action.") and not name.startswith("action.layers."):
            return "rim of the action part"
        return next((reason for prefix, reason in reasons.items() if f"{name}.".startswith(prefix)), None)

    return rule


def check_support(scheme: Scheme, device: str, dtype: torch.dtype, capability: tuple[int, int] | None) -> None:
    """Refuse what has no kernel.

    Args:
        device: type of the device. dtype: of the weights. capability: compute capability of a CUDA device, else None.

    Raises:
        ValueError: one sentence on what is missing.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"{scheme} runs on cpu and cuda; the weights are on {device}")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"{scheme} starts from float32 or bfloat16 weights; got {dtype}")
    if capability is None:
        return
    have = ".".join(map(str, capability))
    if scheme == "fp8" and capability < (8, 9):
        raise ValueError(f"fp8 needs a GPU of compute capability 8.9 or newer; this one has {have}: take int8")
    if scheme == "int4" and capability < (8, 0):
        raise ValueError(f"int4 needs a GPU of compute capability 8.0 or newer; this one has {have}: take int8")
    if scheme == "int4" and dtype != torch.bfloat16:
        raise ValueError(f"int4 on a GPU starts from bfloat16 weights; got {dtype}: cast the model first")


def _choose(module: nn.Module, scheme: Scheme, keep: KeepRule) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names to replace, and name -> reason of those to keep; see `quantize` for the errors."""
    names: list[str] = []
    kept: dict[str, str] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, Fp8Linear) or (
            isinstance(layer, nn.Linear) and is_traceable_wrapper_subclass(layer.weight)
        ):
            raise ValueError(f"layer {name!r} is quantised already; start from the original weights")
        if not isinstance(layer, nn.Linear):
            continue
        reason = _misfit(layer, scheme) or keep(name, layer)
        if reason is not None:
            kept[name] = reason
            continue
        weight = layer.weight
        capability = torch.cuda.get_device_capability(weight.device) if weight.is_cuda else None
        check_support(scheme, weight.device.type, weight.dtype, capability)
        if not bool(weight.isfinite().all()):
            raise ValueError(f"the weight of layer {name!r} is not finite")
        names.append(name)
    if not names:
        raise ValueError(f"nothing to quantise: all {len(kept)} linear layers are kept")
    return tuple(names), kept


def _check_scales(scales: Mapping[str, float], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in scales]
    if missing:
        raise ValueError(
            f"fp8 has no input scale for {len(missing)} of {len(names)} layers (first: {missing[0]}): they did not run, or "
            "saw only zeros, during calibration"
        )
    for name in names:
        if not 0.0 < scales[name] < math.inf:
            raise ValueError(f"the input scale of layer {name!r} must be a positive finite number; got {scales[name]}")


def _misfit(layer: nn.Linear, scheme: Scheme) -> str | None:
    """Why the kernels cannot take this layer."""
    step = INT4_GROUP if scheme == "int4" else 16
    if layer.in_features % step:
        return f"in_features {layer.in_features} is not a multiple of {step}"
    return f"out_features {layer.out_features} is not a multiple of 16" if layer.out_features % 16 else None


def _replacement(layer: nn.Linear, scheme: Scheme, name: str, scales: Mapping[str, float] | None) -> nn.Module:
    if scheme != "fp8":
        return quantize_weight(layer, scheme)
    assert scales is not None
    return Fp8Linear(layer.weight, layer.bias, scales[name])


def _storages(module: nn.Module) -> dict[int, int]:
    """Address -> bytes of every storage that the tree holds."""
    tensors = [plain for tensor in (*module.parameters(), *module.buffers()) for plain in _plain(tensor)]
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that a wrapper (torchao's weights) is made of; any other tensor itself."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _plain(getattr(tensor, name))
