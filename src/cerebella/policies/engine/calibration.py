"""Scales for fp8: watch what enters every linear layer during a few real calls, keep the largest number.

Calibrate with observations of the kind that the policy will see. Random pictures give scales that fit random pictures.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cerebella.policies.engine.fp8 import FP8_MAX

MARGIN = 2.0
"""Headroom over the largest input seen. A power of two: it moves the float8 grid by whole binades and rounds nothing anew.
On the shipped policy margins of 1, 2, 4 and 16 give the same action error."""


def calibrate(module: nn.Module, run: Callable[[], object], margin: float = MARGIN) -> dict[str, float]:
    """Run, and return the input scale of every linear layer: name -> scale.

    Args:
        module: not quantised. If it is compiled, it runs uncompiled here; CUDA graphs must be off.
        run: calls the module as it will be called, once or many times. Runs without gradients.
        margin: how far beyond the largest input seen the scale still reaches, >= 1.

    Returns:
        largest |input| * margin / 448 by the layer's name in `module`. Layers that did not run, or saw nothing but zeros,
        are absent: `quantize` says so if it needs them.

    Raises:
        ValueError: the margin is below 1, no layer ran, an input was not finite, or a CUDA graph is being captured.
    """
    if not 1.0 <= margin < math.inf:
        raise ValueError(f"margin must be a finite factor of at least 1; got {margin}")
    largest: dict[str, Tensor] = {}

    def observer(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs[0].is_cuda and torch.cuda.is_current_stream_capturing():
                raise ValueError("calibrate without CUDA graphs: a replayed graph does not show its inputs")
            amax = inputs[0].detach().abs().amax().float()
            largest[name] = torch.maximum(largest[name], amax) if name in largest else amax

        return record

    linears = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    handles = [layer.register_forward_pre_hook(observer(name)) for name, layer in linears]
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            run()
    finally:
        for handle in handles:
            handle.remove()
    if not largest:
        raise ValueError(
            f"none of the {len(linears)} linear layers ran during calibration: "
            "`run` must call this very module, and not through a captured graph"
        )
    scales: dict[str, float] = {}
    for name, amax in largest.items():
        value = amax.item()
        if not math.isfinite(value):
            raise ValueError(f"the input of layer {name!r} was {value} during calibration")
        if value > 0.0:
            scales[name] = value * margin / FP8_MAX
    return scales


def save_scales(scales: Mapping[str, float], path: Path) -> None:
    """Write name -> scale as JSON; `load_scales` gives back the same numbers."""
    path.write_text(json.dumps(dict(sorted(scales.items())), indent=1) + "\n")


def load_scales(path: Path) -> dict[str, float]:
    """Read what `save_scales` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a JSON object of layer names and positive finite numbers.
    """
    try:
        scales = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(scales, dict):
        raise ValueError(f"{path} must hold one object, layer name to scale; got {type(scales).__name__}")
    for name, scale in scales.items():
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0.0 < scale < math.inf:
            raise ValueError(f"{path}: the scale of {name!r} must be a positive finite number; got {scale!r}")
    return {name: float(scale) for name, scale in scales.items()}
