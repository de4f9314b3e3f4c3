"""One geometry, several contenders, one table: time, memory, operations, fraction of the limit, and parity beside each.

Inside the timer: from a request's tensors in host memory to actions on the device, idle again. Outside: image
pre-processing, the tokenizer, compilation and capture (the first call, reported on its own).
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA

from .counting import compiled_graphs, count_operations, peak_bytes
from .peer import Peer
from .request import Request
from .roofline import Ceilings, limit_s, phases
from .timing import Rounds, interleave, ratio

REFERENCE = "peer, eager"
NULL = "peer, eager, again"


class Model(Protocol):
    """What every contender can do: the two methods of `VLA`."""

    def encode(self, batch: Batch) -> Any:
        """Views and instruction to whatever `sample` reads."""
        ...

    def sample(
        self,
        context: Any,
        state: Tensor,
        noise: Tensor,
        action_mask: Tensor,
        action_prefix: Tensor | None = None,
        prefix_length: Tensor | None = None,
        num_flow_steps: int | None = None,
    ) -> Tensor:
        """Noise to actions."""
        ...


@dataclass(frozen=True)
class Contender:
    """Somebody in the race.

    Args:
        name: row of the table. model: who answers. device: where. weight_bytes: of this model alone.
        bytes_per_weight: of most of its matrices; the limit is computed from it.
        from_host: it takes its batch in host memory and moves it by itself.
        is_compiled: then its operations cannot be counted on a CPU.
        num_flow_steps: None takes the model's.
        replans: also time the action part alone, on a context that is already there.
        ceilings: None takes those of the race; arithmetic of another type has its own.
    """

    name: str
    model: Model
    device: torch.device
    weight_bytes: int
    bytes_per_weight: float
    from_host: bool = False
    is_compiled: bool = False
    num_flow_steps: int | None = None
    replans: bool = False
    ceilings: Ceilings | None = None

    def infer(self, request: Request) -> Tensor:
        """One full inference."""
        placed = self.place(request)
        return self._sample(self.model.encode(placed.batch), placed)

    def replan(self, request: Request) -> Callable[[], Tensor]:
        """Encode now; the function that comes back runs the action part alone, with a fresh state and prefix."""
        context = self.model.encode(self.place(request).batch)
        return lambda: self._sample(context, self.place(request))

    def place(self, request: Request) -> Request:
        """The request where the model wants it."""
        if self.from_host:
            return request
        return Request(request.geometry, request.batch.to(self.device), request.noise.to(self.device))

    def _sample(self, context: Any, placed: Request) -> Tensor:
        batch = placed.batch
        return self.model.sample(
            context,
            batch.state,
            placed.noise,
            batch.action_mask,
            batch.action_prefix,
            batch.prefix_length,
            num_flow_steps=self.num_flow_steps,
        )


@dataclass(frozen=True)
class Row:
    """One line of the table; milliseconds, megabytes (1e6 bytes). None: not measured.

    Args:
        kind: `full`, or `re-plan` for the action part alone.
        primary_ms: median of what the ratios are made of, CPU time on a CPU and wall clock on a GPU.
        p50_ms, p99_ms: wall clock; with few rounds p99 is nearly the slowest of them. cpu_ms: median CPU time. device_ms: median between CUDA events.
        ratio: of the reference's time to this one's, same kind: median, low, high, minima.
        peak_mb: weights plus the most that one call holds. num_operations: see `counting`.
        limit_ms, fraction: the physical limit, and limit / measured. max_abs, cosine: parity with the reference in float32.
        first_call_s, reserved_mb: compilation, capture and first call; GPU memory that the allocator took for it. num_graphs, num_breaks: what `torch.compile` made of it, in that
            first call. full_over_replan: how much cheaper a re-plan is than the same contender's full inference.
    """

    name: str
    kind: str
    primary_ms: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    device_ms: float | None
    ratio: dict[str, float]
    peak_mb: float
    num_operations: int | None
    limit_ms: float
    fraction: float
    max_abs: float
    cosine: float
    first_call_s: float
    reserved_mb: float | None
    num_graphs: int
    num_breaks: int
    num_rounds: int
    full_over_replan: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Rounded to what the measurement can tell."""
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}


def reference_actions(model: VLA, request: Request) -> Tensor:
    """The eager peer in float32, with the weights as they were rounded: what every row's parity is measured against."""
    exact = model if next(model.parameters()).dtype == torch.float32 else copy.deepcopy(model).float()
    device = next(exact.parameters()).device
    widened = Request(request.geometry, _float32(request.batch), request.noise.float())
    with torch.inference_mode():
        return Contender(REFERENCE, Peer(exact), device, 0, 4.0).infer(widened).float().cpu()


@torch.inference_mode()
def race(
    contenders: Sequence[Contender],
    request: Request,
    expected: Tensor,
    config: ModelConfig,
    ceilings: Ceilings,
    rounds: Rounds,
) -> list[Row]:
    """All rows of one geometry; the first contender is the reference of the ratios.

    Args:
        expected: see `reference_actions`. config: of the model that all of them run.
        rounds: of full inferences and of re-plans each.
    """
    full = {one.name: _bind(one.infer, request) for one in contenders}
    work = {
        one.name: phases(config, request.geometry, len(request.batch), one.bytes_per_weight, one.num_flow_steps)
        for one in contenders
    }
    limits = {one.name: limit_s(work[one.name], one.ceilings or ceilings) for one in contenders}
    rows = _race_kind("full", contenders, full, expected, limits, rounds)
    replanning = [one for one in contenders if one.replans]
    if not replanning:
        return rows
    short = {one.name: one.replan(request) for one in replanning}
    limits = {one.name: work[one.name][-1].limit_s(one.ceilings or ceilings) for one in replanning}
    replans = _race_kind("re-plan", replanning, short, expected, limits, rounds)
    full_ms = {row.name: row.primary_ms for row in rows}
    return rows + [replace(row, full_over_replan=full_ms[row.name] / row.primary_ms) for row in replans]


def _race_kind(
    kind: str,
    contenders: Sequence[Contender],
    runs: dict[str, Callable[[], Tensor]],
    expected: Tensor,
    limits: dict[str, float],
    rounds: Rounds,
) -> list[Row]:
    device = contenders[0].device
    first_calls = {name: _first_call(run, device) for name, run in runs.items()}
    timings = interleave(runs, rounds, device)
    reference = timings[contenders[0].name]
    rows = []
    for one in contenders:
        timing, run = timings[one.name], runs[one.name]
        actions = run().float().cpu()
        countable = device.type == "cuda" or not one.is_compiled
        rows.append(
            Row(
                name=one.name,
                kind=kind,
                primary_ms=1e3 * timing.median_s,
                p50_ms=1e3 * statistics.median(timing.wall_s),
                p99_ms=1e3 * float(np.percentile(timing.wall_s, 99)),
                cpu_ms=1e3 * statistics.median(timing.cpu_s),
                device_ms=1e3 * statistics.median(timing.device_s) if timing.device_s else None,
                ratio=asdict(ratio(reference.primary_s, timing.primary_s)),
                peak_mb=(one.weight_bytes + peak_bytes(run, device)) / 1e6,
                num_operations=count_operations(run, device) if countable else None,
                limit_ms=1e3 * limits[one.name],
                fraction=limits[one.name] / timing.median_s,
                max_abs=float((actions - expected).abs().max()),
                cosine=float(F.cosine_similarity(actions.flatten(), expected.flatten(), dim=0)),
                num_rounds=len(timing.primary_s),
                **first_calls[one.name],
            )
        )
    return rows


def _bind(infer: Callable[[Request], Tensor], request: Request) -> Callable[[], Tensor]:
    return lambda: infer(request)


def _first_call(run: Callable[[], Tensor], device: torch.device) -> dict[str, Any]:
    reserved = torch.cuda.memory_reserved() if device.type == "cuda" else None
    graphs, breaks = compiled_graphs()
    start_s = time.perf_counter()
    run().cpu()
    first_call_s = time.perf_counter() - start_s
    graphs_after, breaks_after = compiled_graphs()
    return {
        "first_call_s": first_call_s,
        "reserved_mb": None if reserved is None else (torch.cuda.memory_reserved() - reserved) / 1e6,
        "num_graphs": graphs_after - graphs,
        "num_breaks": breaks_after - breaks,
    }


def _float32(batch: Batch) -> Batch:
    widened = {name: getattr(batch, name).float() for name in ("state", "action_mask", "action_prefix")}
    return replace(batch, **widened)
