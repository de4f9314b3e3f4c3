"""The parts of the GPU plan. Each is a generator of records, so that what is done is kept when its time is up.

a, e   ceilings, eager peer, readable model, engine at three geometries, parity; e repeats a for the run-to-run spread
b      fp8, int8 and int4 weights, and 1 to 10 flow steps, with the error of the actions
c      batches of robots, and how many robots one server holds
d      training steps and their share of the measured peak
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import torch

from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.policies.engine import Engine
from cerebella.policies.engine.calibration import calibrate
from cerebella.policies.engine.quantization import Scheme, parts, quantize

from . import contenders
from .ceilings import measure_ceilings
from .request import Geometry, Request, make_request
from .roofline import Ceilings, limit_s, phases, training_flops
from .rows import Contender, Row, race, reference_actions
from .serving import Order, most_robots
from .table import table
from .timing import Rounds, interleave
from .train_step import training_step
from .weights import random_model

FLOW_STEPS = (1, 2, 3, 5, 10)
BYTES: dict[Scheme, float] = {"fp8": 1.0, "int8": 1.0, "int4": 0.5}
Records = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        preset: of the model. train: (preset, brain is trained, batch size) of the training steps. geometries: the first is
            used where one is enough. batch_sizes: robots per pass. num_rounds, num_warm_ups: of every race.
    """

    preset: str
    train: tuple[tuple[str, bool, int], ...]
    geometries: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    num_rounds: int
    num_warm_ups: int

    @property
    def is_gpu(self) -> bool:
        """Whether graphs and compilation are worth their time here."""
        return self.device.type == "cuda"

    def request(self, config_of: VLA, geometry: str, batch_size: int = 1) -> Request:
        """A random request in host memory."""
        return make_request(config_of.config, Geometry.parse(geometry), batch_size, self.dtype)


@dataclass(frozen=True)
class Ready:
    """What all parts share: the model, the engine that parts a, c and e use, and the measured ceilings."""

    scale: Scale
    model: VLA
    engine: Contender
    ceilings: Ceilings


def make_ready(scale: Scale) -> Ready:
    """Measure the ceilings, build the model and its engine: compiled with CUDA graphs on a GPU, neither on a CPU."""
    ceilings = measure_ceilings(scale.dtype, scale.device)
    model = random_model(preset(scale.preset), scale.dtype, scale.device)
    return Ready(scale, model, _engine(scale, model), ceilings)


def latency(ready: Ready) -> Records:
    """Part a."""
    scale, model = ready.scale, ready.model
    field = [*contenders.usual(model, with_null=not scale.is_gpu), contenders.engine(model), ready.engine]
    for geometry in scale.geometries:
        yield from _race(ready, field if scale.is_gpu else field[:-1], geometry)


def repeat(ready: Ready) -> Records:
    """Part e: the reference and the engine once more."""
    field = [contenders.usual(ready.model, with_null=False)[0], ready.engine]
    for geometry in ready.scale.geometries:
        yield from _race(ready, field, geometry)


def peer_compiled(ready: Ready) -> Records:
    """The end of part a: the peer under `torch.compile`, which takes minutes to compile."""
    field = [contenders.usual(ready.model, with_null=False)[0], contenders.compiled_peer(ready.model)]
    yield from _race(ready, field, ready.scale.geometries[0])


def precision(ready: Ready) -> Records:
    """Part b. Scales come from a random request; errors of random weights say that the arithmetic works, no more."""
    scale, model = ready.scale, ready.model
    geometry = scale.geometries[0]
    request = scale.request(model, geometry)
    reference = contenders.usual(model, with_null=False)[0]
    built = ready.engine.model
    assert isinstance(built, Engine)
    # One engine keeps one context in its buffers, so five of its contenders cannot re-plan in turns.
    steps = [contenders.engine_contender(f"engine, {n} flow steps", built, num_flow_steps=n) for n in FLOW_STEPS]
    steps = [replace(one, replans=False) for one in steps]
    yield from _race(ready, [replace(reference, replans=False), *steps], geometry)
    for scheme in get_args(Scheme):
        scales = None
        if scheme == "fp8":
            scales = _scales(model, request)
        small = _engine(scale, model, f"engine, {scheme}")
        assert isinstance(small.model, Engine)
        try:
            report = quantize(parts(small.model), scheme, scales=scales)
        except ValueError as error:
            yield {"scheme": scheme, "measured": False, "reason": str(error)}
            continue
        small = replace(small, weight_bytes=report.bytes_after, bytes_per_weight=BYTES[scheme])
        if scheme == "fp8" and scale.is_gpu:
            small = replace(small, ceilings=measure_ceilings(torch.float8_e4m3fn, scale.device))
        for record in _race(ready, [reference, ready.engine, small], geometry):
            yield record | {"scheme": scheme, "quantized": len(report.quantized), "kept": len(report.kept)}


def serving(ready: Ready) -> Records:
    """Part c: throughput by batch size, then robots per server on the measured times."""
    scale, model = ready.scale, ready.model
    geometry = scale.geometries[0]
    service_s: dict[int, float] = {}
    eager = contenders.usual(model, with_null=False)[0]
    single = scale.request(model, geometry)
    eager_s = _seconds(scale, eager, single)
    for size in scale.batch_sizes:
        service_s[size] = _seconds(scale, ready.engine, scale.request(model, geometry, size))
        floor_s = limit_s(phases(model.config, Geometry.parse(geometry), size, scale.dtype.itemsize), ready.ceilings)
        yield {
            "batch_size": size,
            "p50_ms": 1e3 * service_s[size],
            "inferences_per_s": size / service_s[size],
            "fraction": floor_s / service_s[size],
        }
    servers: tuple[tuple[str, dict[int, float], Order], ...] = (
        ("eager peer, one at a time, fifo", {1: eager_s}, "fifo"),
        ("engine, one at a time, fifo", {1: service_s[1]}, "fifo"),
        ("engine, batches, earliest deadline first", service_s, "edf"),
    )
    for name, times, order in servers:
        yield {"server": name} | asdict(most_robots(times, order))


def training(ready: Ready) -> Records:
    """Part d. A step that does not fit into memory is a record, not a failure."""
    scale = ready.scale
    geometry = scale.geometries[0]
    for name, trains_brain, batch_size in scale.train:
        model = ready.model if name == scale.preset else random_model(preset(name), scale.dtype, scale.device)
        request = scale.request(model, geometry, batch_size)
        placed = Request(request.geometry, request.batch.to(scale.device), request.noise.to(scale.device))
        record: dict[str, Any] = {"preset": name, "trains_brain": trains_brain, "batch_size": batch_size}
        try:
            step = training_step(model, placed, trains_brain)
            timing = interleave({"step": step}, Rounds(max(scale.num_rounds // 10, 3)), scale.device)["step"]
        except torch.OutOfMemoryError as error:
            yield record | {"measured": False, "reason": str(error).partition(".")[0]}
            continue
        finally:
            model.requires_grad_(False)
        flops = batch_size * training_flops(model.config, request.geometry, 4, trains_brain)
        yield record | {
            "step_ms": 1e3 * timing.median_s,
            "samples_per_s": batch_size / timing.median_s,
            "share_of_measured_peak": flops / timing.median_s / ready.ceilings.flops_per_s,
        }


def _engine(scale: Scale, model: VLA, name: str | None = None) -> Contender:
    return contenders.engine(model, "layers" if scale.is_gpu else "no", use_graphs=scale.is_gpu, name=name)


def _scales(model: VLA, request: Request) -> dict[str, float]:
    """Static scales of every layer's input, from an engine that is not compiled."""
    plain = contenders.engine(model)
    assert isinstance(plain.model, Engine)
    return calibrate(parts(plain.model), lambda: plain.infer(request))


def _race(ready: Ready, field: list[Contender], geometry: str) -> Records:
    """One table, and one record per row."""
    scale, model = ready.scale, ready.model
    request = scale.request(model, geometry)
    expected = reference_actions(model, request)
    rows: list[Row] = race(
        field, request, expected, model.config, ready.ceilings, Rounds(scale.num_rounds, scale.num_warm_ups)
    )
    print("\n" + table(f"{scale.preset} {geometry}", rows), flush=True)
    for row in rows:
        yield {"geometry": geometry} | row.to_json()


def _seconds(scale: Scale, contender: Contender, request: Request) -> float:
    with torch.inference_mode():
        rounds = Rounds(max(scale.num_rounds // 3, 3), scale.num_warm_ups)
        return interleave({"run": lambda: contender.infer(request)}, rounds, scale.device)["run"].median_s
