"""Many processes as one: who is there (`World`), weights and gradients in pieces (`shard`, FSDP2), numbers averaged.

The same training code runs in one process without torch.distributed and under torchrun. Three rules keep ranks from
waiting for each other for ever:

- Everything that reads weights runs inside one call of `TrainedModules`, the root that gathers what belongs to no layer.
- Every rank calls the same layers in the same order. A rank without an image needs `models.dummy_image`. The cerebellum
  stays gathered from its first call to the backward pass, so a rank may sample from it more often than the others.
- Gradients are the mean over ranks of the gradients of each rank's own loss. Where a loss is a sum over a number of
  tokens that differs between ranks, divide by `mean_count`, not by the rank's own count.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer, Qwen3VLVisionBlock

from cerebella.models.cerebellum import Layer as CerebellumLayer
from cerebella.models.kv_outputs import give_out_keys_and_values

Result = TypeVar("Result")


@dataclass(frozen=True)
class World:
    """The processes of one run.

    Args:
        rank: 0-based number of this process. size: number of processes. device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True in exactly one process: the one that writes logs."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's part of `count` rows, e.g. of a batch; together the ranks cover each row once.

        Raises:
            ValueError: the rows cannot be split evenly.
        """
        if count % self.size:
            raise ValueError(f"{count} rows cannot be split evenly over {self.size} processes")
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)


class TrainedModules(nn.ModuleDict):
    """Everything that one training step touches, by name; the root of sharding.

    `modules(compute)` returns `compute()`, run where every weight outside of layers is at hand. Sharded or not, any
    method of any module may be used inside, and none outside.
    """

    _replicated: tuple[nn.Parameter, ...] = ()

    def forward(self, compute: Callable[[], Result]) -> Result:
        """Run `compute`, usually an objective.

        Raises:
            ValueError: a weight that was replicated because it was frozen is trained now.
        """
        if any(parameter.requires_grad for parameter in self._replicated):
            raise ValueError(
                "weights that were frozen when shard(..., replicate_frozen=True) was called are trained now; their "
                "gradients would stay on one rank. Freeze them again, or shard without replicate_frozen"
            )
        return compute()


def start_world(timeout_s: float = 1800.0) -> World:
    """Join the other processes that torchrun started; alone without torchrun, where nothing is initialised.

    Gloo on CPUs; NCCL on GPUs, one per process, with gloo beside it for checkpoints.

    Args:
        timeout_s: how long to wait for a rank that does not answer before the run is given up.

    Raises:
        ValueError: only a part of torchrun's environment is there, or a process has no GPU of its own.
    """
    has_cuda = torch.cuda.is_available()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(0, 1, torch.device("cuda", torch.cuda.current_device()) if has_cuda else torch.device("cpu"))
    wanted = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in wanted if name not in os.environ]:
        raise ValueError(f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; start with torchrun")
    device = torch.device("cpu")
    if has_cuda:
        local_rank = int(os.environ["LOCAL_RANK"])
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"process {local_rank} of this machine needs a GPU of its own, but there are "
                f"{torch.cuda.device_count()}; lower torchrun's --nproc-per-node"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if has_cuda else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    return World(dist.get_rank(), dist.get_world_size(), device)


def stop_world(world: World) -> None:
    """Leave the other processes; the counterpart of `start_world`."""
    if world.size > 1:
        dist.destroy_process_group()


def shard(
    modules: TrainedModules,
    world: World,
    hybrid: int | None = None,
    compute_dtype: torch.dtype | None = None,
    replicate_frozen: bool = False,
    recompute_language: bool = False,
) -> None:
    """Cut weights, gradients and optimiser state into pieces, in place; moves them to the device of `world`.

    One group per brain layer, vision block and cerebellum layer; the root holds what is left, with token embeddings and
    word head together, so that they stay tied. Build the optimiser afterwards. Alone, only the move happens.

    Args:
        hybrid: ranks per copy of the weights (HSDP; with 8 GPUs a node, 8 keeps the gathering inside nodes); None: one
            copy in all; 1: each rank has a whole copy. A divisor of the number of ranks.
        compute_dtype: type in which layers compute and gather, e.g. bfloat16, while weights and gradient sums stay as
            they are; None computes in the type of the weights.
        replicate_frozen: weights that need no gradient now stay whole on every rank: more memory, nothing to gather.
        recompute_language: trade memory for time in the brain's layers, see `kv_outputs`; also for one process.

    Raises:
        ValueError: `hybrid` does not divide the number of ranks.
    """
    modules.to(world.device)
    if world.size == 1:
        for layer in modules.modules():
            if recompute_language and isinstance(layer, Qwen3VLTextDecoderLayer):
                give_out_keys_and_values(layer, recompute=True)
        return
    group_size = world.size if hybrid is None else hybrid
    if group_size < 1 or world.size % group_size:
        raise ValueError(f"hybrid is {hybrid} ranks per copy; it must divide the {world.size} ranks of this run")
    kind = world.device.type
    mesh = (
        init_device_mesh(kind, (world.size,))
        if group_size == world.size
        else init_device_mesh(kind, (world.size // group_size, group_size), mesh_dim_names=("replicate", "shard"))
    )
    frozen = {parameter for parameter in modules.parameters() if not parameter.requires_grad}
    # Our layers cast by themselves; a cast of their inputs here would round rotary angles and flow times.
    precision = MixedPrecisionPolicy(compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    apply = partial(fully_shard, mesh=mesh, mp_policy=precision, ignored_params=frozen if replicate_frozen else None)
    for layer in list(modules.modules()):
        if isinstance(layer, Qwen3VLTextDecoderLayer):
            give_out_keys_and_values(layer, wrap=apply, recompute=recompute_language)
        elif isinstance(layer, Qwen3VLVisionBlock):
            apply(layer)
        elif isinstance(layer, CerebellumLayer):
            # Gathered once, until the backward pass, and no gathering ahead in the order in which layers ran, which
            # differs between ranks that sample and ranks that do not.
            apply(layer, reshard_after_forward=False)
            assert isinstance(layer, FSDPModule)
            layer.set_modules_to_backward_prefetch([layer])
    apply(modules)
    if replicate_frozen:
        modules._replicated = tuple(frozen)
        if compute_dtype is not None:
            for parameter in frozen:
                parameter.data = parameter.data.to(compute_dtype)


def accumulate(modules: nn.Module, is_last: bool) -> None:
    """Before the backward pass of one of several micro-batches: ranks exchange gradients in the last one only.

    In between each rank holds the whole gradient of what it gathered, in memory.
    """
    if isinstance(modules, FSDPModule):
        modules.set_requires_gradient_sync(is_last)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale gradients, all ranks' pieces together, to a global norm of at most `max_norm`; the norm before."""
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def mean_over_ranks(values: Mapping[str, float], world: World) -> dict[str, float]:
    """Each number's mean over the ranks that report it (a rank may lack some), in sorted order; same on all ranks."""
    if world.size == 1:
        return dict(values)
    reports: list[Mapping[str, float] | None] = [None] * world.size
    dist.all_gather_object(reports, dict(values))
    given: dict[str, list[float]] = {}
    for report in reports:
        for name, value in (report or {}).items():
            given.setdefault(name, []).append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in sorted(given.items())}


def mean_count(count: Tensor, world: World) -> Tensor:
    """Mean over ranks of a number of counted items (tokens, entries), float32[] without gradient.

    A rank's sum of losses divided by this has, averaged over ranks, the gradient of the mean over all ranks' items.
    """
    total = count.detach().float().clone()
    if world.size > 1:
        dist.all_reduce(total)
    return total / world.size
