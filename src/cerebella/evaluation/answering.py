"""A model as somebody who answers questions about scenes."""

from collections.abc import Sequence

import torch
from transformers import Qwen3VLForConditionalGeneration

from cerebella.evaluation.vision_language import Answerer
from cerebella.models.generate import generate
from cerebella.models.vla import VLA
from cerebella.processing.conversation import ConversationProcessor
from cerebella.types import Conversation

MAX_NEW_TOKENS = 48
"""The longest right answer of the scenes (a box, or a caption of six kinds) is shorter."""


def answerer(model: VLA | Qwen3VLForConditionalGeneration, processor: ConversationProcessor) -> Answerer:
    """Greedy answers of a brain, on the device where it is."""
    device = next(model.parameters()).device

    def answer(conversations: Sequence[Conversation]) -> list[str]:
        was_training = model.training
        model.eval()
        with torch.no_grad():
            batch = processor.encode_questions(conversations).to(device)
            said = generate(model, batch, MAX_NEW_TOKENS, (processor.end_of_turn_id,))
        model.train(was_training)
        return processor.decode(said)

    return answer
