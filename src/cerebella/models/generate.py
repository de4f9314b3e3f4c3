"""What the brain says: greedy answers, and how likely a given answer is."""

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from cerebella.batch import BrainInput, VisionLanguageBatch
from cerebella.models import brain as brain_module
from cerebella.models.vla import VLA


@torch.no_grad()
def generate(
    model: VLA | Qwen3VLForConditionalGeneration, batch: BrainInput, max_new_tokens: int, stop_tokens: tuple[int, ...]
) -> list[list[int]]:
    """The likeliest next token, again and again: for each sample its new token ids without the one that stopped it.

    Args:
        batch: prompts, right padded, as `ConversationProcessor.encode_questions` makes them.
        max_new_tokens: 1 or more; a sample that has not stopped by then is cut.
        stop_tokens: ids that end an answer, for chat `<|im_end|>`.

    Raises:
        ValueError: no token is asked for, or nothing could end an answer.
    """
    if max_new_tokens < 1 or not stop_tokens:
        raise ValueError(
            f"max_new_tokens must be 1 or more and stop_tokens not empty; got {max_new_tokens} and {stop_tokens}"
        )
    brain = model.brain if isinstance(model, VLA) else model
    stops = torch.tensor(stop_tokens, device=batch.input_ids.device)
    reading = brain_module.read(brain, batch, keep_cache=True)
    everyone = torch.arange(len(batch), device=batch.input_ids.device)
    stream = reading.stream[everyone, batch.attention_mask.sum(dim=1) - 1]
    answers: list[list[int]] = [[] for _ in range(len(batch))]
    is_open = torch.ones(len(batch), dtype=torch.bool, device=batch.input_ids.device)
    for index in range(max_new_tokens):
        token = brain.lm_head(stream).argmax(dim=-1)
        is_open &= ~torch.isin(token, stops)
        for sample, (said, is_on) in enumerate(zip(token.tolist(), is_open.tolist(), strict=True)):
            if is_on:
                answers[sample].append(said)
        if index + 1 == max_new_tokens or not bool(is_open.any()):
            break
        reading = brain_module.read_on(brain, reading, brain.get_input_embeddings()(token)[:, None])
        stream = reading.stream[:, -1]
    return answers


@torch.no_grad()
def log_likelihood(model: VLA | Qwen3VLForConditionalGeneration, batch: VisionLanguageBatch) -> Tensor:
    """float32[B]: the log-probability of each sample's counted tokens, summed. Compares candidate answers."""
    losses, sample = brain_module.word_losses(model.brain if isinstance(model, VLA) else model, batch)
    return -losses.new_zeros(len(batch)).index_add_(0, sample, losses)
