import numpy as np
import pytest
import torch

from cerebella.batch import NOT_COUNTED
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.images import ImageConfig
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.types import Conversation

TOKENIZER = train_tokenizer(["What is this? A red gear.", "user assistant How many parts? Three."], vocab_size=400)
IMAGES = ImageConfig(patch_size=8)


def picture(height: int = 32, width: int = 48, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def talk(*turns: str, images: tuple[np.ndarray, ...] = ()) -> Conversation:
    roles = ("user", "assistant") * (len(turns) // 2)
    return Conversation(images, tuple(zip(roles, turns, strict=True)), "the test")  # pyright: ignore[reportArgumentType]


def processor(**fields: object) -> ConversationProcessor:
    return ConversationProcessor(TOKENIZER, IMAGES, **fields)  # pyright: ignore[reportArgumentType]


def test_the_text_is_the_chat_format_and_only_answers_count() -> None:
    asked = talk("<image>\nWhat is this?", "A red gear.", "How many?", "Three.", images=(picture(),))
    batch = processor().encode([asked])
    expected = (
        f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * 6}<|vision_end|>\nWhat is this?<|im_end|>\n"
        "<|im_start|>assistant\nA red gear.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n"
        "<|im_start|>assistant\nThree.<|im_end|>\n"
    )
    assert batch.input_ids[0].tolist() == TOKENIZER(expected)["input_ids"]
    counted = batch.input_ids[0][batch.labels[0] != NOT_COUNTED]
    assert TOKENIZER.decode(counted) == "A red gear.<|im_end|>Three.<|im_end|>"
    assert batch.num_counted == len(counted)
    assert batch.image_grid_thw is not None
    assert batch.image_grid_thw.tolist() == [[1, 4, 6]]
    assert batch.mm_token_type_ids.sum() == 6


def test_the_format_is_that_of_the_official_template() -> None:
    """The published chat template of Qwen, without tools and system turn, as Transformers applies it."""
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    )
    turns = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "A gear."}]
    text = TOKENIZER.apply_chat_template(turns, chat_template=template, tokenize=False)
    batch = processor().encode([talk("What is this?", "A gear.")])
    assert TOKENIZER.decode(batch.input_ids[0]) == text


def test_a_batch_is_padded_on_the_right_and_padding_never_counts() -> None:
    short, long = (
        talk("Hm?", "Yes.", images=()),
        talk("<image> and <image>?", "No.", images=(picture(), picture(16, 16))),
    )
    batch = processor().encode([short, long])
    num_real = batch.attention_mask.sum(dim=1)
    assert batch.attention_mask[0, : num_real[0]].all()
    assert not batch.attention_mask[0, num_real[0] :].any()
    assert (batch.labels[batch.attention_mask == 0] == NOT_COUNTED).all()
    assert (batch.input_ids[batch.attention_mask == 0] == processor().pad_token_id).all()
    alone = processor().encode([short])
    assert torch.equal(alone.input_ids[0], batch.input_ids[0, : num_real[0]])
    assert torch.equal(alone.labels[0], batch.labels[0, : num_real[0]])
    assert alone.pixel_values is None


def test_letters_of_several_bytes_count_as_a_whole() -> None:
    batch = processor().encode([talk("Grüß?", "日本 é.")])
    counted = batch.input_ids[0][batch.labels[0] != NOT_COUNTED]
    assert TOKENIZER.decode(counted) == "日本 é.<|im_end|>"


def test_a_question_stops_where_the_answer_begins() -> None:
    asked = talk("What?", "Gears.", "How many?", "Three.")
    batch = processor().encode_questions([asked])
    assert str(TOKENIZER.decode(batch.input_ids[0])).endswith(
        "Gears.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert batch.num_counted == 0
    whole = processor().encode([asked])
    assert torch.equal(whole.input_ids[0, : batch.input_ids.shape[1]], batch.input_ids[0])
    assert processor().decode([TOKENIZER("Three.")["input_ids"]]) == ["Three."]


def test_a_text_cannot_forge_the_format() -> None:
    with pytest.raises(ValueError, match=r"from the test: a turn holds the special token '<\|im_end\|>'"):
        processor().encode([talk("Hi<|im_end|>", "Yes.")])


def test_an_answer_that_melts_into_its_frame_is_refused() -> None:
    merging = train_tokenizer(["assistant\n\nHi"] * 50, vocab_size=400)
    assert len(merging("\n\n")["input_ids"]) == 1
    with pytest.raises(ValueError, match=r"'\\nHi<\|im_end\|>' shares a token with the text around it"):
        ConversationProcessor(merging, IMAGES).encode([talk("Hm?", "\nHi")])


def test_what_is_too_long_is_an_error_or_counted() -> None:
    asked = talk("What is this?", "A red gear, " * 10)
    length = processor().encode([asked]).input_ids.shape[1]
    with pytest.raises(ValueError, match=rf"from the test: {length} tokens, at most {length - 5} are allowed"):
        processor(max_tokens=length - 5).encode([asked])
    cutting = processor(max_tokens=length - 5, on_long="cut")
    batch = cutting.encode([asked, talk("Hm?", "No.")])
    assert batch.input_ids.shape[1] == length - 5
    assert cutting.num_cut == 1
    with pytest.raises(ValueError, match="the cut would leave no answer"):
        processor(max_tokens=4, on_long="cut").encode([asked])
    with pytest.raises(ValueError, match="the cut would go through a picture"):
        processor(max_tokens=8, on_long="cut").encode([talk("<image>", "No.", images=(picture(),))])


def test_no_conversation_is_no_batch() -> None:
    with pytest.raises(ValueError, match="at least one conversation"):
        processor().encode([])
