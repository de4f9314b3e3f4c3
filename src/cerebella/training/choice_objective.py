"""Choice Policies as a training objective (Xiaomi-Robotics-0, first stage of pre-training)."""

from collections.abc import Mapping

from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.choice import ChoiceHeads, choice_losses, propose
from cerebella.models.flow import rows_are_noisy
from cerebella.models.vla import VLA
from cerebella.training.stages import Stage

COLLAPSE_SHARE = 0.95
"""From this share of wins on, one candidate does everything and the others learn nothing."""


def choice_objective(model: VLA, heads: ChoiceHeads, batch: Batch, stage: Stage) -> Mapping[str, Tensor]:
    """`loss`, its parts `choice` and `score`, `best_error`, `chosen_error`, and `win_0` .. `win_{N-1}`, shares of wins.

    Rows that were committed before the observation are no targets.
    """
    assert batch.actions is not None, "training needs targets"
    action_mask = batch.action_mask
    if batch.prefix_length is not None:
        action_mask = action_mask * rows_are_noisy(batch.prefix_length, action_mask.shape[1])
    candidates, scores = propose(model, heads, batch)
    losses = choice_losses(candidates, scores, batch.actions, action_mask, stage.loser_weight)
    wins = {f"win_{index}": share for index, share in enumerate(losses.win_shares)}
    return {
        "loss": stage.choice_weight * losses.regression + stage.score_weight * losses.score,
        "choice": losses.regression.detach(),
        "score": losses.score.detach(),
        "best_error": losses.best_error,
        "chosen_error": losses.chosen_error,
        **wins,
    }


def collapse_message(row: Mapping[str, float]) -> str | None:
    """What to tell a person if one candidate wins nearly always; None if all is well or there is but one.

    Args:
        row: means over an interval, with `win_*`.
    """
    shares = [value for name, value in row.items() if name.startswith("win_")]
    if len(shares) < 2 or max(shares) < COLLAPSE_SHARE:
        return None
    said = ", ".join(f"{share:.0%}" for share in shares)
    return (
        f"one of {len(shares)} candidates wins nearly always (shares {said}): the others learn nothing. Either the "
        "demonstrations have one mode, or try loser_weight 0.05 or another seed"
    )
