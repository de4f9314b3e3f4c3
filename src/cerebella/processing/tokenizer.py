"""A small byte-level BPE tokenizer with Qwen's special tokens, trained offline in a second.

Released and pre-trained brains bring their own tokenizer; this one is for models that are trained here from nothing.
"""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION_TOKENS)
"""The last ids of the vocabulary, in this order; a model preset places its image and video ids accordingly."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """Learn merges from `texts` and return a tokenizer with exactly `vocab_size` ids, the special ones last.

    Byte-level: every text can be encoded, also one never seen. Where the corpus has too few pairs to fill the
    vocabulary, the rest are reserved entries that no text produces.

    Raises:
        ValueError: `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size must be at least {smallest} (256 bytes + {len(SPECIAL_TOKENS)} special tokens)")
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    num_plain = vocab_size - len(SPECIAL_TOKENS)
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=num_plain,
            min_frequency=1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in _merges(learner)]
    vocab = learner.get_vocab()
    for index in range(len(vocab), num_plain):
        vocab[f"<|reserved_{index}|>"] = index
    for index, token in enumerate(SPECIAL_TOKENS):
        vocab[token] = num_plain + index
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,  # pyright: ignore[reportArgumentType]  # the class documents strings, its backend wants pairs
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        eos_token="<|im_end|>",
    )


def _merges(learner: Tokenizer) -> list[list[str]]:
    """The learnt merge pairs, strongest first."""
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [pair if isinstance(pair, list) else pair.split(" ") for pair in merges]
