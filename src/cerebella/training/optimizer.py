"""AdamW over the parts that a stage trains, and a running mean of what it trains."""

import torch
from torch import Tensor, nn

from cerebella.training.lora import is_adapter
from cerebella.training.stages import Part, Stage

BETAS, EPSILON = (0.9, 0.95), 1e-8
"""Of the released post-training configuration."""
_UNDECAYED = {
    "matrices": ("norm", "adaln", "embed", "sink"),
    "released": ("bias", "norm", "ln", "rotary_emb", "adaln"),
}


def make_optimizer(modules: nn.ModuleDict, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the stage's parts and its objective's heads; freezes everything else.

    With adapters (`lora`), only they learn of the modules that have them. Each group remembers its factor on the
    learning rate as `rate`; see `set_learning_rate`.
    """
    has_adapters = any(is_adapter(name) for name, _ in modules.named_parameters())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, stage.weight_decay): [], (1.0, 0.0): []}
    for name, parameter in modules.named_parameters():
        part = part_of(name)
        learns = part in stage.trains or name.startswith(f"heads.{stage.objective}.")
        if has_adapters and part == "language":
            learns = learns and is_adapter(name)
        parameter.requires_grad_(learns)
        if learns:
            rate = stage.brain_rate if part in ("vision", "language", "embeddings") else 1.0
            decay = stage.weight_decay if _is_decayed(name, parameter, stage) else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": params, "weight_decay": decay, "rate": rate} for (rate, decay), params in groups.items()],
        lr=stage.learning_rate,
        betas=BETAS,
        eps=EPSILON,
        fused=True,
    )
    # From the start and for all, also for weights that an objective never reaches: checkpoints always have one layout.
    for parameter in (parameter for params in groups.values() for parameter in params):
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group its share of the stage's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate"]


def part_of(name: str) -> Part | None:
    """The part that a parameter of `objectives.trained_modules` or `touch_modules` belongs to; None for the heads."""
    if name.startswith("touch_refiner."):
        return "touch_refiner"
    if name.startswith("model.cerebellum."):
        return "cerebellum"
    if name.startswith("model.brain.model.visual."):
        return "vision"
    if "embed_tokens" in name or "lm_head" in name:
        return "embeddings"
    return "language" if name.startswith("model.brain.") else None


def _is_decayed(name: str, parameter: nn.Parameter, stage: Stage) -> bool:
    if stage.decay_rule == "matrices" and parameter.ndim < 2:
        return False
    return not any(key in name.lower() for key in _UNDECAYED[stage.decay_rule])


class RunningMean(nn.Module):
    """An exponential mean of the weights that a stage trains, in float32.

    It starts at the weights and forgets faster in the beginning: after n updates the newest weights enter with
    1 - min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.mean = nn.ParameterList(nn.Parameter(p.detach().clone().float(), requires_grad=False) for p in parameters)

    @torch.no_grad()
    def update(self, parameters: list[nn.Parameter], num_updates: int) -> None:
        """Take in new weights; `num_updates`: how many came before."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        for mean, parameter in zip(self.mean, parameters, strict=True):
            mean.lerp_(_same_type(parameter, mean), 1 - decay)

    @torch.no_grad()
    def write_to(self, parameters: list[nn.Parameter]) -> None:
        """Replace the weights by their mean."""
        for mean, parameter in zip(self.mean, parameters, strict=True):
            parameter.copy_(_same_type(mean, parameter))


def _same_type(tensor: Tensor, other: Tensor) -> Tensor:
    return tensor.detach().to(other.dtype)
