"""What fits, and how long it takes, before anyone waits: memory per GPU and predicted speed of a training stage.

Parameters are counted on the meta device, nothing is allocated. With P trained and F frozen parameters, weights cut over
n ranks (`parallel.shard`: n = 1 whole copies, n = GPUs of a node for HSDP, n = all for FSDP):

| per GPU | bytes |
|---|---|
| weights, float32 | 4 (P + F) / n |
| gradients, float32 | 4 P / n; 4 P while several micro-batches add up |
| AdamW moments, float32 | 8 P / n; 4 P / n more for a running mean |
| copies in bfloat16 for computing | 2 per parameter of root and cerebellum, 4 of two brain layers; 2 (P + F) on one GPU |
| activations | `sample_cost`, times the samples of a micro-batch |
| CUDA, NCCL and fragmentation | 2 GB and 5 % of the memory |

Speed is operations over peak times utilisation; it knows nothing of communication or of small batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cerebella.models.choice import ChoiceHeads
from cerebella.models.config import ModelConfig
from cerebella.models.vla import parameter_table
from cerebella.training.sample_cost import Recomputed, SampleCost, Sight, sample_cost
from cerebella.training.stages import Stage

GB = 1e9
RESERVED_GB, RESERVED_SHARE = 2.0, 0.05
RECOMPUTES: tuple[tuple[Recomputed, ...], ...] = ((), ("vision",), ("vision", "language"))


@dataclass(frozen=True)
class Machine:
    """What it runs on.

    Args:
        num_gpus: all together. memory_gb: of one, in 10^9 bytes. gpus_per_node: with fast links between them.
        tflops: peak of one GPU in dense bfloat16 (989: H100 and H200).
        utilisation: share of the peak that training reaches. 0.35 lies in the 33-39 % that torchtitan reports for an
            8 B language model on H100; small pictures and short texts stay below.

    Raises:
        ValueError: a number is out of range.
    """

    num_gpus: int
    memory_gb: float
    gpus_per_node: int = 8
    tflops: float = 989.0
    utilisation: float = 0.35

    def __post_init__(self) -> None:
        for name in ("num_gpus", "gpus_per_node"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        for name, unit in (("memory_gb", "GB"), ("tflops", "TFLOP/s")):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 {unit}; got {getattr(self, name)}")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation must be above 0 and at most 1; got {self.utilisation}")


@dataclass(frozen=True)
class Layout:
    """One way to run the stage.

    Args:
        name: `replicate`, `hsdp` or `fsdp`. hybrid: for `parallel.shard`. recompute: for the loop.
        fixed_gb: part -> GB per GPU, whatever the batch. sample_gb: activations of one sample.
        micro_batch: the most samples (windows and conversations together) per GPU and pass that fit and divide the
            GPU's share of a step; 0: not even one fits.
        num_micro_batches: passes per optimiser step. total_gb: per GPU, with that micro-batch (one sample if none fits).
        samples_per_s: robot windows and conversations, all GPUs. hours: for the whole stage.
    """

    name: str
    hybrid: int | None
    recompute: tuple[Recomputed, ...]
    fixed_gb: dict[str, float]
    sample_gb: float
    micro_batch: int
    num_micro_batches: int
    total_gb: float
    samples_per_s: float
    hours: float

    @property
    def fits(self) -> bool:
        """True if at least one sample per GPU fits."""
        return self.micro_batch > 0


@dataclass(frozen=True)
class Plan:
    """All layouts of a stage, best first: what fits, then speed, then few passes per step, then little communication.

    Args:
        parameters: part -> number. trained: parts whose weights move.
        num_tokens: context tokens of a robot window. flops_per_sample: of the mixture, nothing recomputed.
    """

    stage: Stage
    machine: Machine
    parameters: dict[str, int]
    trained: tuple[str, ...]
    num_tokens: int
    flops_per_sample: float
    layouts: tuple[Layout, ...]

    @property
    def best(self) -> Layout | None:
        """The first layout that fits; None if none does."""
        return self.layouts[0] if self.layouts[0].fits else None

    @property
    def advice(self) -> str:
        """What to do, in a sentence."""
        if self.best is not None:
            again = f", recompute {' and '.join(self.best.recompute)}" if self.best.recompute else ""
            return (
                f"{self.best.name}{again}: {self.best.micro_batch} samples per GPU and pass, "
                f"passes per step: {self.best.num_micro_batches}, about {self.best.hours:,.1f} h"
            )
        least = min(self.layouts, key=lambda layout: layout.total_gb)
        fixed = sum(least.fixed_gb.values())
        biggest = max(least.fixed_gb, key=lambda part: least.fixed_gb[part])
        hints = ["GPUs with more memory", "fewer trained parts (Stage.trains)", "adapters (lora_rank)"]
        if least.name != "replicate" or self.machine.num_gpus == 1:
            hints.insert(0, "more GPUs to cut the weights over")
        return (
            f"nothing fits into {self.machine.memory_gb:g} GB: the least is {least.total_gb:.1f} GB per GPU for one sample "
            f"({fixed:.1f} GB before any sample, most of it {biggest}). What would help: {', '.join(hints)}"
        )


def plan(config: ModelConfig, stage: Stage, machine: Machine, robot: Sight, conversation: Sight | None = None) -> Plan:
    """Every layout of a stage on a machine.

    Args:
        robot: what a robot window shows. conversation: the same of a conversation; needed if the stage has any.

    Raises:
        ValueError: the stage learns from conversations, but nobody said what they look like; or its batch cannot be
            split over the GPUs.
    """
    if stage.num_conversations and conversation is None:
        raise ValueError(f"stage {stage.name!r} has conversations; say how long they are (conversation)")
    for name in ("batch_size", "num_conversations"):
        if (count := getattr(stage, name)) % machine.num_gpus:
            raise ValueError(
                f"stage {stage.name!r}: {name} {count} cannot be split evenly over {machine.num_gpus} GPUs; "
                f"{_nearest(count, machine.num_gpus)} can"
            )
    parameters = count_parameters(config, stage)
    layouts = [
        _layout(config, stage, machine, parameters, (robot, conversation), *way, recompute)
        for way in _ways(machine)
        for recompute in RECOMPUTES
        if set(recompute) <= _recomputable(stage)
    ]
    layouts.sort(
        key=lambda layout: (
            not layout.fits,
            -layout.samples_per_s,
            layout.num_micro_batches,
            layout.hybrid or machine.num_gpus,
        )
    )
    return Plan(
        stage=stage,
        machine=machine,
        parameters=parameters,
        trained=tuple(part for part in parameters if part == "heads" or part in stage.trains),
        num_tokens=robot.num_tokens(config),
        flops_per_sample=_mixture(config, stage, robot, conversation, ()).flops,
        layouts=tuple(layouts),
    )


def count_parameters(config: ModelConfig, stage: Stage) -> dict[str, int]:
    """Part (`stages.Part`, and `heads` of Choice Policies) -> parameters, counted on the meta device."""
    table = parameter_table(config).parts
    counts = {
        "vision": table["brain.visual"],
        "language": table["brain.language_model"],
        "embeddings": table["brain.embed_tokens"],
        "cerebellum": sum(count for part, count in table.items() if part.startswith("cerebellum.")),
    }
    if stage.objective == "choice":
        with torch.device("meta"):
            counts["heads"] = sum(parameter.numel() for parameter in ChoiceHeads(config).parameters())
    return counts


def _ways(machine: Machine) -> Sequence[tuple[str, int | None]]:
    """(name, ranks per copy): whole copies, one copy per node, one copy in all."""
    ways: list[tuple[str, int | None]] = [("replicate", 1)]
    if machine.gpus_per_node < machine.num_gpus and machine.num_gpus % machine.gpus_per_node == 0:
        ways.append(("hsdp", machine.gpus_per_node))
    if machine.num_gpus > 1:
        ways.append(("fsdp", None))
    return ways


def _recomputable(stage: Stage) -> set[str]:
    """Parts that keep activations in this stage."""
    return ({"vision"} if "vision" in stage.trains else set()) | ({"language"} if stage.trains_brain else set())


def _layout(
    config: ModelConfig,
    stage: Stage,
    machine: Machine,
    parameters: dict[str, int],
    sights: tuple[Sight, Sight | None],
    name: str,
    hybrid: int | None,
    recompute: tuple[Recomputed, ...],
) -> Layout:
    pieces = machine.num_gpus if hybrid is None else hybrid
    trained = sum(count for part, count in parameters.items() if part == "heads" or part in stage.trains)
    every = sum(parameters.values())
    text = config.brain["text_config"]
    root = parameters["embeddings"] + parameters.get("heads", 0) + parameters["cerebellum"]
    two_layers = 2 * parameters["language"] / text["num_hidden_layers"]
    fixed = {
        "weights": 4 * every / pieces / GB,
        "gradients": 4 * trained / pieces / GB,
        "optimiser state": (12 if stage.ema_decay else 8) * trained / pieces / GB,
        "bfloat16 copies": 2 * (every if machine.num_gpus == 1 else root + 2 * two_layers) / GB,
        "reserve": RESERVED_GB + RESERVED_SHARE * machine.memory_gb,
    }
    cost = _mixture(config, stage, *sights, recompute)
    sample_gb, peak_gb = cost.kept_bytes / GB, cost.peak_bytes / GB
    per_gpu = (stage.batch_size + stage.num_conversations) // machine.num_gpus
    used = sum(fixed.values())
    accumulated = {**fixed, "gradients": 4 * trained / GB}
    micro_batch = _largest(machine.memory_gb - used, sample_gb + peak_gb, per_gpu)
    if 0 < micro_batch < per_gpu:
        fixed = accumulated
        micro_batch = _largest(machine.memory_gb - sum(fixed.values()), sample_gb + peak_gb, per_gpu)
    num_passes = -(-per_gpu // micro_batch) if micro_batch else 0
    speed = machine.num_gpus * machine.tflops * 1e12 * machine.utilisation / cost.flops
    return Layout(
        name=name,
        hybrid=hybrid,
        recompute=recompute,
        fixed_gb=fixed,
        sample_gb=sample_gb,
        micro_batch=micro_batch,
        num_micro_batches=num_passes,
        total_gb=sum(fixed.values()) + max(micro_batch, 1) * (sample_gb + peak_gb),
        samples_per_s=speed,
        hours=stage.num_steps * per_gpu * machine.num_gpus / speed / 3600,
    )


def _largest(free_gb: float, sample_gb: float, per_gpu: int) -> int:
    """The largest divisor of a GPU's share of the batch that fits; the loop cuts it evenly."""
    most = int(free_gb / sample_gb) if free_gb > 0 else 0
    return max((size for size in range(1, min(most, per_gpu) + 1) if per_gpu % size == 0), default=0)


def _mixture(
    config: ModelConfig, stage: Stage, robot: Sight, conversation: Sight | None, recompute: tuple[Recomputed, ...]
) -> SampleCost:
    """Mean over the windows and conversations of a step; what is recomputed at once counts for the whole pass."""
    costs = [(sample_cost(config, stage, robot, recompute), stage.batch_size)]
    if conversation is not None and stage.num_conversations:
        talk = sample_cost(config, stage, conversation, recompute, is_conversation=True)
        costs.append((talk, stage.num_conversations))
    total = sum(count for _, count in costs)
    return SampleCost(
        flops=sum(cost.flops * count for cost, count in costs) / total,
        kept_bytes=sum(cost.kept_bytes * count for cost, count in costs) / total,
        peak_bytes=max(cost.peak_bytes for cost, _ in costs),
    )


def _nearest(count: int, divisor: int) -> int:
    """The multiple of the divisor that is nearest to the count, and not zero."""
    return max(round(count / divisor), 1) * divisor


def for_gpus(stage: Stage, num_gpus: int) -> Stage:
    """The stage with both counts rounded to what can be split over so many GPUs."""
    counts = {
        name: _nearest(getattr(stage, name), num_gpus)
        for name in ("batch_size", "num_conversations")
        if getattr(stage, name)
    }
    return replace(stage, **counts)
