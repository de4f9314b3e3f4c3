"""Conversations about pictures to a `VisionLanguageBatch`, in the chat format of the Qwen family.

    <|im_start|>user\\n<|vision_start|><|image_pad|>...<|vision_end|>What is this?<|im_end|>\\n
    <|im_start|>assistant\\nA gear.<|im_end|>\\n

Only the assistant's words and the `<|im_end|>` after them count in the loss. The format is an interface constant of the
brains (their chat template without a system turn).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.batch import NOT_COUNTED, VisionLanguageBatch
from cerebella.processing.images import ImageConfig, fit, fitted_size, patchify
from cerebella.processing.prompt import IMAGE_TOKEN
from cerebella.types import IMAGE_PLACEHOLDER, Conversation, ImageArray

END_OF_TURN = "<|im_end|>"
OnLong = Literal["error", "cut"]


class ConversationProcessor:
    """See the module.

    Args:
        tokenizer: the brain's. images: the vision tower's geometry.
        max_tokens: longest conversation, image tokens included; None is no limit.
        on_long: `error` refuses a longer one; `cut` drops its end and counts it in `num_cut`.
    """

    def __init__(
        self,
        tokenizer: Qwen2Tokenizer,
        images: ImageConfig,
        max_tokens: int | None = None,
        on_long: OnLong = "error",
    ) -> None:
        self.tokenizer, self.images, self.max_tokens, self.on_long = tokenizer, images, max_tokens, on_long
        self.num_cut = 0
        self.image_token_id, self.end_of_turn_id = (_token_id(tokenizer, t) for t in (IMAGE_TOKEN, END_OF_TURN))
        self.pad_token_id = _token_id(tokenizer, str(tokenizer.pad_token))

    def encode(self, conversations: Sequence[Conversation], as_bytes: bool = False) -> VisionLanguageBatch:
        """Whole conversations, with labels on every answer; `as_bytes` as in `images.patchify`.

        Raises:
            ValueError: no conversation; a text holds a special token; an answer's first or last token reaches into what
                stands around it; too long, or cut before the first answer.
        """
        return self._batch(conversations, [self._rows(c, is_question=False) for c in conversations], as_bytes)

    def encode_questions(self, conversations: Sequence[Conversation]) -> VisionLanguageBatch:
        """Conversations up to the last answer, which is left to be said; no token counts. For `models.generate`."""
        return self._batch(conversations, [self._rows(c, is_question=True) for c in conversations], as_bytes=False)

    def decode(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """Generated token ids to text."""
        return [str(self.tokenizer.decode(list(answer))) for answer in answers]

    def _rows(self, conversation: Conversation, is_question: bool) -> tuple[Tensor, Tensor]:
        """Token ids and labels of one conversation, int64[L] each."""
        counts = [self._num_tokens(image) for image in conversation.images]
        text, answers = _chat(conversation, counts, is_question, self.tokenizer.all_special_tokens)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
        labels = torch.full_like(ids, NOT_COUNTED)
        spans = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        for start, end in answers:
            inside = (spans[:, 0] >= start) & (spans[:, 1] <= end) & (spans[:, 1] > spans[:, 0])
            if not inside.any() or spans[inside, 0].min() != start or spans[inside, 1].max() != end:
                raise ValueError(
                    f"conversation from {conversation.source}: the answer {text[start:end]!r} shares a token with the "
                    "text around it; remove the white space at its ends"
                )
            labels[torch.from_numpy(inside)] = ids[torch.from_numpy(inside)]
        return self._limited(conversation, ids, labels, is_question)

    def _limited(
        self, conversation: Conversation, ids: Tensor, labels: Tensor, is_question: bool
    ) -> tuple[Tensor, Tensor]:
        if self.max_tokens is None or len(ids) <= self.max_tokens:
            return ids, labels
        what = f"conversation from {conversation.source}: {len(ids)} tokens, at most {self.max_tokens} are allowed"
        if self.on_long == "error" or is_question:
            raise ValueError(what)
        if bool((ids[self.max_tokens :] == self.image_token_id).any()):
            raise ValueError(f"{what}, and the cut would go through a picture")
        if not bool((labels[: self.max_tokens] != NOT_COUNTED).any()):
            raise ValueError(f"{what}, and the cut would leave no answer")
        self.num_cut += 1
        return ids[: self.max_tokens], labels[: self.max_tokens]

    def _num_tokens(self, image: ImageArray) -> int:
        """Tokens of one picture after fitting."""
        height, width = fitted_size(image.shape[0], image.shape[1], self.images)
        return height * width // self.images.factor**2

    def _batch(
        self, conversations: Sequence[Conversation], rows: Sequence[tuple[Tensor, Tensor]], as_bytes: bool
    ) -> VisionLanguageBatch:
        if not rows:
            raise ValueError("need at least one conversation; got none")
        pictures = [fit(image, self.images) for conversation in conversations for image in conversation.images]
        pixel_values, grid = patchify(pictures, self.images, as_bytes) if pictures else (None, None)
        longest = max(len(ids) for ids, _ in rows)
        input_ids = torch.full((len(rows), longest), self.pad_token_id, dtype=torch.int64)
        attention_mask, labels = torch.zeros_like(input_ids), torch.full_like(input_ids, NOT_COUNTED)
        for i, (ids, counted) in enumerate(rows):
            input_ids[i, : len(ids)], attention_mask[i, : len(ids)], labels[i, : len(ids)] = ids, 1, counted
        return VisionLanguageBatch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            mm_token_type_ids=((input_ids == self.image_token_id) & (attention_mask == 1)).long(),
            pixel_values=pixel_values,
            image_grid_thw=grid,
            labels=labels,
        )


def _chat(
    conversation: Conversation, tokens_per_image: Sequence[int], is_question: bool, special_tokens: Sequence[str]
) -> tuple[str, list[tuple[int, int]]]:
    """The text, and where in it the answers with their end of turn are (first and one past the last character)."""
    text, answers, counts = "", [], iter(tokens_per_image)
    for index, (role, words) in enumerate(conversation.turns):
        if found := [token for token in special_tokens if token in words]:
            raise ValueError(f"conversation from {conversation.source}: a turn holds the special token {found[0]!r}")
        text += f"<|im_start|>{role}\n"
        if role == "assistant":
            if is_question and index + 1 == len(conversation.turns):
                break
            if not is_question:
                answers.append((len(text), len(text) + len(words) + len(END_OF_TURN)))
        else:
            first, *others = words.split(IMAGE_PLACEHOLDER)
            words = first + "".join(
                f"<|vision_start|>{IMAGE_TOKEN * next(counts)}<|vision_end|>{piece}" for piece in others
            )
        text += f"{words}{END_OF_TURN}\n"
    return text, answers


def _token_id(tokenizer: Qwen2Tokenizer, token: str) -> int:
    index = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(index, int):
        raise ValueError(f"the tokenizer has no token {token!r}")
    return index
