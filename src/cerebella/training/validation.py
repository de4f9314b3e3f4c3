"""How far predicted chunks are from held-out ones, row by row, and a picture of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from cerebella.batch import Batch
from cerebella.models.choice import choose, propose
from cerebella.models.flow import rows_are_noisy
from cerebella.training.objectives import (
    action_model_of,
    choice_heads_of,
    model_of,
    next_token_loss,
    touch_refiner_of,
)
from cerebella.training.sources import TrainingBatch
from cerebella.training.stages import Stage
from cerebella.training.touch_objective import touch_errors

_NUM_DRAWN = 6


@dataclass(frozen=True, eq=False)
class Validation:
    """Of one batch of held-out data.

    Args:
        row_errors: mean absolute error per row of the chunk over active entries behind the prefix, float32[H] in model
            units (spreads of the statistics); a row without any is NaN. None where the objective predicts no chunk.
        next_token: mean loss per counted token; None without conversations.
        predicted, actions, action_mask: of the first window, float32[H, A], for `draw_chunk`.
        touch: errors of the wrist increment by name, see `touch_errors`; None without pairs of grasps.
    """

    row_errors: Tensor | None
    next_token: float | None
    predicted: Tensor | None = None
    actions: Tensor | None = None
    action_mask: Tensor | None = None
    touch: Mapping[str, float] | None = None

    def to_row(self) -> dict[str, object]:
        """For JSON."""
        row: dict[str, object] = {}
        if self.row_errors is not None:
            row["row_errors"] = [None if x != x else round(x, 5) for x in self.row_errors.tolist()]
            row["error"] = self.row_errors.nanmean().item()
        if self.next_token is not None:
            row["next_token"] = self.next_token
        return row | dict(self.touch or {})


@torch.no_grad()
def validate(modules: nn.ModuleDict, batch: TrainingBatch, stage: Stage, seed: int) -> Validation:
    """Predict held-out chunks as at run time (a committed prefix is given, nothing is hidden) and compare; or increments.

    Args:
        batch: on the model's device. seed: decides the noise, the same at every validation.
    """
    next_token = None
    if batch.language is not None:
        count = torch.tensor(float(batch.language.num_counted), device=batch.language.labels.device)
        next_token = next_token_loss(model_of(modules), batch.language, count).item()
    if batch.touch is not None:
        return Validation(None, next_token, touch=touch_errors(touch_refiner_of(modules), batch.touch))
    predict = _PREDICTIONS.get(stage.objective)
    if batch.robot is None or predict is None:
        return Validation(None, next_token)
    robot = batch.robot
    assert robot.actions is not None
    predicted = predict(modules, robot, seed).float()
    counts = robot.action_mask
    if robot.prefix_length is not None:
        counts = counts * rows_are_noisy(robot.prefix_length, counts.shape[1])
    error = (predicted - robot.actions).abs() * counts
    row_errors = error.sum(dim=(0, 2)) / counts.sum(dim=(0, 2))
    predicted, actions, action_mask = (x[0].cpu() for x in (predicted, robot.actions, robot.action_mask))
    return Validation(row_errors.cpu(), next_token, predicted, actions, action_mask)


def draw_chunk(validation: Validation, path: Path, title: str) -> bool:
    """Predicted against true rows of the first active slots, as PNG; False (and no file) without a prediction."""
    if validation.predicted is None or validation.actions is None or validation.action_mask is None:
        return False
    slots = validation.action_mask.bool().any(dim=0).nonzero().flatten().tolist()[:_NUM_DRAWN]
    if not slots:
        return False
    figure, panels = plt.subplots(1, len(slots), figsize=(2.4 * len(slots), 2.2), squeeze=False)
    for panel, slot in zip(panels[0], slots, strict=True):
        panel.plot(validation.actions[:, slot], color="black", linewidth=1.2, label="true")
        panel.plot(validation.predicted[:, slot], color="tab:orange", linewidth=1.2, label="predicted")
        panel.set_title(f"slot {slot}", fontsize=8)
        panel.tick_params(labelsize=6)
        panel.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=6)
    figure.suptitle(title, fontsize=9)
    figure.supxlabel("row", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _sampled(modules: nn.ModuleDict, batch: Batch, seed: int) -> Tensor:
    model = action_model_of(modules)
    noise = torch.randn(batch.action_mask.shape, generator=torch.Generator().manual_seed(seed))
    return model.sample(
        model.encode(batch),
        batch.state,
        noise.to(batch.state.device),
        batch.action_mask,
        batch.actions,
        batch.prefix_length,
    )


def _chosen(modules: nn.ModuleDict, batch: Batch, _: int) -> Tensor:
    return choose(*propose(model_of(modules), choice_heads_of(modules), batch))


_PREDICTIONS: Mapping[str, Callable[[nn.ModuleDict, Batch, int], Tensor]] = {"flow": _sampled, "choice": _chosen}
