from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from cerebella.processing.prompt import robot_prompt
from cerebella.processing.tokenizer import SPECIAL_TOKENS, train_tokenizer

TEXTS = [robot_prompt(["base"], f"pick the {colour} part") for colour in ("red", "green")]
TOKENIZER = train_tokenizer(TEXTS, vocab_size=512)


def test_special_tokens_are_the_last_ids_and_stay_whole() -> None:
    assert len(TOKENIZER) == 512
    assert TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(512 - len(SPECIAL_TOKENS), 512))
    ids = TOKENIZER(TEXTS[0])["input_ids"]
    assert ids[0] == TOKENIZER.convert_tokens_to_ids("<|im_start|>")
    assert TOKENIZER.decode(ids) == TEXTS[0]


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_text_survives(text: str) -> None:
    import unicodedata

    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == unicodedata.normalize("NFC", text)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS[1])["input_ids"] == TOKENIZER(TEXTS[1])["input_ids"]


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 263"):
        train_tokenizer(TEXTS, vocab_size=200)
