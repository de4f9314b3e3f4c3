"""What one call costs beside time: operations sent to the device, and memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode


def count_operations(run: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Kernels and copies on a GPU; on a CPU the operations that PyTorch dispatches, views not counted.

    Code that `torch.compile` made does not dispatch what it fused, and refuses to run under the counter: do not call this
    for it on a CPU.
    """
    if torch.device(device).type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            run()
            torch.cuda.synchronize()
        return sum(event.device_type().name == "CUDA" for event in _events(record))
    with _Counter() as counter:
        run()
    return counter.num_operations


def peak_bytes(run: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Most bytes that one call holds at a time, beyond what existed before it (weights, static buffers)."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    changes = [(event.start_ns(), event.nbytes()) for event in _events(record) if event.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak


def compiled_graphs() -> tuple[int, int]:
    """(graphs, graph breaks) of everything that `torch.compile` has done in this process so far."""
    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())


def weight_bytes(*modules: nn.Module) -> int:
    """Bytes of all parameters and buffers, each storage once (the engine's fused weights are the model's)."""
    storages = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _events(record: profile) -> list[Any]:
    assert record.profiler is not None
    results = record.profiler.kineto_results
    assert results is not None
    return results.events()


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.num_operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_operations += not func.is_view
        return func(*args, **(kwargs or {}))
