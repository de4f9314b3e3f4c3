from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cerebella.batch import Batch
from cerebella.models import brain
from cerebella.models.choice import ChoiceHeads, candidate_errors, choice_losses, choose, propose
from cerebella.models.vla import VLA


def heads_for(model: VLA, num_candidates: int = 3) -> ChoiceHeads:
    torch.manual_seed(1)
    return ChoiceHeads(model.config, num_candidates)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_call_equals_the_cache_and_a_second_call(
    make_model: Callable[..., VLA], make_batch: Callable[..., Batch]
) -> None:
    model = make_model()
    batch, heads = make_batch(model.config), heads_for(model)
    with torch.no_grad():
        together = heads(brain.read(model.brain, batch, heads.queries(batch.state)).stream[:, -10:])
        prompt = brain.read(model.brain, batch, keep_cache=True)
        after = heads(brain.read_on(model.brain, prompt, heads.queries(batch.state)).stream)
    assert together[0].shape == (2, 3, 8, 5)
    assert together[1].shape == (2, 3)
    for one, other in zip(together, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_prompt_is_read_as_without_queries(
    make_model: Callable[..., VLA], make_batch: Callable[..., Batch]
) -> None:
    model = make_model()
    batch, heads = make_batch(model.config), heads_for(model)
    with torch.no_grad():
        with_queries = brain.read(model.brain, batch, heads.queries(batch.state)).stream[:, : batch.input_ids.shape[1]]
        stock = model.brain.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
            mm_token_type_ids=batch.mm_token_type_ids,
        ).last_hidden_state
    is_real = batch.attention_mask.bool()
    torch.testing.assert_close(with_queries[is_real], stock[is_real], atol=1e-5, rtol=1e-5)


def test_queries_see_no_padding(make_model: Callable[..., VLA], make_batch: Callable[..., Batch]) -> None:
    """The short sample alone (no padding) and beside a longer one (padded) gives the same proposals."""
    model = make_model()
    heads = heads_for(model)
    both = make_batch(model.config, num_words=(3, 9))
    alone = Batch(
        input_ids=both.input_ids[:1, :-6],
        attention_mask=both.attention_mask[:1, :-6],
        mm_token_type_ids=both.mm_token_type_ids[:1, :-6],
        pixel_values=None if both.pixel_values is None else both.pixel_values[:16],
        image_grid_thw=None if both.image_grid_thw is None else both.image_grid_thw[:1],
        state=both.state[:1],
        action_mask=both.action_mask[:1],
    )
    assert alone.attention_mask.all()
    with torch.no_grad():
        for padded, unpadded in zip(propose(model, heads, both), propose(model, heads, alone), strict=True):
            torch.testing.assert_close(padded[:1], unpadded, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_see_later_queries(make_model: Callable[..., VLA], make_batch: Callable[..., Batch]) -> None:
    model = make_model()
    batch, heads = make_batch(model.config), heads_for(model)
    with torch.no_grad():
        before, scores = propose(model, heads, batch)
        heads.action_queries.weight[5] += 1.0
        after, other_scores = propose(model, heads, batch)
    assert torch.equal(before[:, :, :5], after[:, :, :5])
    assert not torch.isclose(before[:, :, 5:], after[:, :, 5:]).all(dim=-1).any()
    assert not torch.allclose(scores, other_scores)


def test_gradients_reach_eyes_language_and_queries(
    make_model: Callable[..., VLA], make_batch: Callable[..., Batch]
) -> None:
    model = make_model()
    batch, heads = make_batch(model.config), heads_for(model)
    assert batch.actions is not None
    candidates, scores = propose(model, heads, batch)
    losses = choice_losses(candidates, scores, batch.actions, batch.action_mask)
    (losses.regression + losses.score).backward()
    visual, language = model.brain.model.visual, model.brain.model.language_model
    for parameter in (
        visual.patch_embed.proj.weight,
        language.layers[0].self_attn.q_proj.weight,
        heads.action_queries.weight,
        heads.score_query.weight,
    ):
        assert isinstance(parameter, nn.Parameter)
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.cerebellum.parameters())
    model.zero_grad(set_to_none=True)


def test_errors_are_means_over_active_entries() -> None:
    actions, mask = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    candidates = torch.tensor([[[[3.0, 0.0], [0.0, 99.0]], [[1.0, 1.0], [4.0, 0.0]]]])
    assert candidate_errors(candidates, actions, mask).tolist() == [[1.0, 2.0]]


def test_the_winner_is_the_same_for_all_rows_and_takes_all() -> None:
    """Candidate 1 is better in one row, candidate 0 over the chunk: only candidate 0 gets a gradient."""
    candidates = torch.tensor([[[[1.0], [1.0]], [[0.0], [5.0]]]], requires_grad=True)
    losses = choice_losses(candidates, torch.zeros(1, 2), torch.zeros(1, 2, 1), torch.ones(1, 2, 1))
    losses.regression.backward()
    assert candidates.grad is not None
    assert candidates.grad[0, 0].tolist() == [[0.5], [0.5]]
    assert candidates.grad[0, 1].eq(0).all()
    assert losses.regression.item() == losses.best_error.item() == 1.0
    assert losses.win_shares.tolist() == [1.0, 0.0]


def test_losers_get_their_share_when_asked() -> None:
    candidates = torch.tensor([[[[1.0]], [[2.0]], [[4.0]]]], requires_grad=True)
    losses = choice_losses(candidates, torch.zeros(1, 3), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), loser_weight=0.1)
    assert losses.regression.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    losses.regression.backward()
    assert candidates.grad is not None
    assert candidates.grad.flatten().tolist() == pytest.approx([0.9, 0.05, 0.05])


def test_scores_learn_the_errors_and_move_no_candidate() -> None:
    candidates = torch.tensor([[[[1.0]], [[3.0]]]], requires_grad=True)
    scores = torch.tensor([[2.0, 2.0]], requires_grad=True)
    losses = choice_losses(candidates, scores, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    assert losses.score.item() == 1.0
    losses.score.backward()
    assert candidates.grad is None
    assert scores.grad is not None
    assert scores.grad.tolist() == [[1.0, -1.0]]
    assert losses.chosen_error.item() == 1.0


def test_the_lowest_predicted_error_is_chosen() -> None:
    candidates = random(3, 4, 5, 2)
    scores = torch.tensor([[3.0, 1.0, 2.0, 4.0], [0.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 4.0]])
    assert torch.equal(choose(candidates, scores), candidates[torch.arange(3), torch.tensor([1, 0, 3])])


def test_samples_without_a_target_take_no_part() -> None:
    candidates, actions, mask = random(2, 3, 4, 2), random(2, 4, 2, seed=1), torch.ones(2, 4, 2)
    mask[1] = 0
    both = choice_losses(candidates, torch.zeros(2, 3), actions, mask)
    alone = choice_losses(candidates[:1], torch.zeros(1, 3), actions[:1], mask[:1])
    torch.testing.assert_close(both.regression, alone.regression)
    assert torch.equal(both.win_shares, alone.win_shares)
    with pytest.raises(ValueError, match="no active entry"):
        choice_losses(candidates, torch.zeros(2, 3), actions, torch.zeros_like(mask))


def test_bad_heads_are_refused(make_model: Callable[..., VLA], make_batch: Callable[..., Batch]) -> None:
    model = make_model()
    with pytest.raises(ValueError, match="num_candidates must be 1 or more; got 0"):
        ChoiceHeads(model.config, 0)
    with pytest.raises(ValueError, match="8 action queries; got 6 rows"):
        propose(model, heads_for(model), make_batch(make_model(horizon=6).config))


def test_candidates_keep_two_ways_apart_where_one_regression_averages() -> None:
    """Half the demonstrations go left, half right; what tells them apart is in the input of half of the samples only.

    The best candidate must be near a way; a single L1 regression cannot be, however long it learns. The scores must
    choose better than a candidate at random.
    """

    def train(num_candidates: int) -> tuple[float, float, float]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 32), nn.GELU(), nn.Linear(32, num_candidates * 4 + num_candidates))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(5)
        best = chosen = anyone = 0.0
        for step in range(400):
            way = torch.randint(0, 2, (64,), generator=generator) * 2.0 - 1.0
            is_told = torch.rand(64, generator=generator) < 0.5
            seen = torch.stack([way * is_told, is_told.float()], dim=1)
            out = network(seen)
            candidates = out[:, : num_candidates * 4].view(64, num_candidates, 4, 1)
            actions = way[:, None, None] * torch.linspace(0.5, 1.0, 4)[None, :, None]
            losses = choice_losses(candidates, out[:, num_candidates * 4 :], actions, torch.ones(64, 4, 1))
            optimizer.zero_grad()
            (losses.regression + losses.score).backward()
            optimizer.step()
            if step >= 350:
                best += losses.best_error.item() / 50
                chosen += losses.chosen_error.item() / 50
                anyone += candidate_errors(candidates, actions, torch.ones(64, 4, 1)).mean().item() / 50
        return best, chosen, anyone

    best, chosen, anyone = train(5)
    single, _, _ = train(1)
    assert best < 0.1 < 0.3 < single
    assert chosen < 0.8 * anyone
