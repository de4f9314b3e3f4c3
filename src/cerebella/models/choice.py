"""Choice Policies: N candidate chunks and a predicted error for each, in one pass of the brain (arXiv 2512.25072).

Xiaomi-Robotics-0 pre-trains its brain this way, with L1 errors: one regression would average demonstrations that do the
same thing in different ways; N candidates keep them apart. Behind the prompt come [state, action query 1 .. H, score
query]. Query i gives row i of all candidates, the score query one predicted error per candidate:

    d_c      = mean |candidate_c - actions| over the active entries of the whole chunk
    winner   = argmin d_c                              the same candidate for all rows
    loss     = d_winner  and  (score_c - d_c)^2        the errors as constants in the second

N and the heads' shape are not published for Xiaomi-Robotics-0; five is the value of its successor's code. The heads are
thrown away after the stage, so they are no part of `VLA`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cerebella.batch import Batch
from cerebella.models.brain import read
from cerebella.models.config import ModelConfig
from cerebella.models.vla import VLA

NUM_CANDIDATES = 5


class ChoiceHeads(nn.Module):
    """Queries into the brain's stream and read-outs from it, for one geometry and horizon.

    Args:
        num_candidates: N, 1 or more; 1 is a single regression.

    Raises:
        ValueError: no candidate.
    """

    def __init__(self, config: ModelConfig, num_candidates: int = NUM_CANDIDATES) -> None:
        if num_candidates < 1:
            raise ValueError(f"num_candidates must be 1 or more; got {num_candidates}")
        super().__init__()
        width = config.brain["text_config"]["hidden_size"]
        self.horizon, self.action_dim, self.num_candidates = config.horizon, config.action_dim, num_candidates
        self.state_projector = nn.Sequential(nn.Linear(config.state_dim, width), nn.GELU(), nn.Linear(width, width))
        self.action_queries = nn.Embedding(config.horizon, width)
        self.score_query = nn.Embedding(1, width)
        nn.init.normal_(self.action_queries.weight, std=0.02)
        nn.init.normal_(self.score_query.weight, std=0.02)
        self.action_head = _mlp(width, num_candidates * config.action_dim)
        self.score_head = _mlp(width, num_candidates)

    def queries(self, state: Tensor) -> Tensor:
        """state float[B, 1, S] -> float[B, 1 + H + 1, hidden]: what follows the prompt."""
        num = len(state)
        return torch.cat(
            [
                self.state_projector(state),
                self.action_queries.weight.expand(num, -1, -1),
                self.score_query.weight.expand(num, -1, -1),
            ],
            dim=1,
        )

    def forward(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """The stream at the queries, float[B, 2 + H, hidden] -> candidates float[B, N, H, A], scores float[B, N]."""
        rows = self.action_head(stream[:, 1:-1]).unflatten(-1, (self.num_candidates, self.action_dim))
        return rows.transpose(1, 2), self.score_head(stream[:, -1])


def propose(model: VLA, heads: ChoiceHeads, batch: Batch) -> tuple[Tensor, Tensor]:
    """Candidates float[B, N, H, A] and their predicted errors float[B, N], in one call of the language model.

    Raises:
        ValueError: the batch has another horizon than the heads.
    """
    if batch.action_mask.shape[1] != heads.horizon:
        raise ValueError(f"the choice heads have {heads.horizon} action queries; got {batch.action_mask.shape[1]} rows")
    dtype = heads.score_query.weight.dtype
    queries = heads.queries(batch.state.to(dtype))
    return heads(read(model.brain, batch, queries).stream[:, -queries.shape[1] :].to(dtype))


def choose(candidates: Tensor, scores: Tensor) -> Tensor:
    """The candidate with the lowest predicted error: float[B, H, A]."""
    return candidates[torch.arange(len(candidates), device=candidates.device), scores.argmin(dim=1)]


def candidate_errors(candidates: Tensor, actions: Tensor, action_mask: Tensor) -> Tensor:
    """d_c, float32[B, N]: mean |candidate - actions| over a sample's active entries; 0 for a sample without any.

    Args:
        candidates: float[B, N, H, A]. actions, action_mask: float[B, H, A].
    """
    error = (candidates.float() - actions[:, None].float()).abs() * action_mask[:, None]
    return error.sum(dim=(2, 3)) / action_mask.sum(dim=(1, 2)).clamp(min=1)[:, None]


@dataclass(frozen=True, eq=False)
class ChoiceLosses:
    """Scalars with gradient, and what happened.

    Args:
        regression: mean error of the winners (with `loser_weight`, a share of the others' as well).
        score: mean squared error of the predicted errors.
        win_shares: float32[N], share of the samples that each candidate won.
        best_error, chosen_error: mean error of the winner, and of the candidate that the scores would choose.
    """

    regression: Tensor
    score: Tensor
    win_shares: Tensor
    best_error: Tensor
    chosen_error: Tensor


def choice_losses(
    candidates: Tensor, scores: Tensor, actions: Tensor, action_mask: Tensor, loser_weight: float = 0.0
) -> ChoiceLosses:
    """Winner takes all, and the regression of the scores to the errors as they are.

    Args:
        candidates: float[B, N, H, A]. scores: float[B, N]. actions, action_mask: float[B, H, A]. Samples without an
            active entry take no part.
        loser_weight: share of the regression that the losers have together, 0..1 (relaxed winner takes all); 0 gives
            the gradient to the winner alone.

    Raises:
        ValueError: no entry is active; there is nothing to learn from such a batch.
    """
    takes_part = action_mask.bool().any(dim=2).any(dim=1)
    if not bool(takes_part.any()):
        raise ValueError("action_mask has no active entry: this batch has no target to learn")
    errors = candidate_errors(candidates, actions, action_mask)[takes_part]
    scores = scores[takes_part].float()
    num_candidates = errors.shape[1]
    everyone = torch.arange(len(errors), device=errors.device)
    winner = errors.argmin(dim=1)
    won = errors[everyone, winner]
    regression = won
    if loser_weight > 0 and num_candidates > 1:
        lost = (errors.sum(dim=1) - won) / (num_candidates - 1)
        regression = (1 - loser_weight) * won + loser_weight * lost
    constant = errors.detach()
    return ChoiceLosses(
        regression=regression.mean(),
        score=(scores - constant).square().mean(),
        win_shares=torch.bincount(winner, minlength=num_candidates).float() / len(errors),
        best_error=won.detach().mean(),
        chosen_error=constant[everyone, scores.argmin(dim=1)].mean(),
    )


def _mlp(width: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, num_out)
    )
