"""Scenes, encoded once and held on the device: conversations for the next-token loss, windows for the vision warm-up."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.batch import Batch, VisionLanguageBatch
from cerebella.embodiment import Embodiment
from cerebella.envs.scenes.dialogues import make_dialogues
from cerebella.envs.scenes.questions import QuestionSet, make_questions
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.processor import Processor
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.scenes import SceneWindows
from cerebella.training.held_source import stack
from cerebella.types import SceneTruth

_PIECE = 500
"""Questions per family in a piece of work. A piece has scenes of its own, seeded by the run's seed and its number."""
_ENCODE_AT_ONCE = 256


@dataclass(frozen=True)
class SceneAmount:
    """How much of the small world a run learns from.

    Args:
        families: of `envs.scenes.families.FAMILIES`. num_questions: of each family.
        num_windows: pictures with dense truth. height: rows of a picture, px. max_turns: questions per conversation.
        seed: of everything. num_workers: processes that render and encode; the data do not depend on it.
    """

    families: tuple[str, ...]
    num_questions: int
    num_windows: int
    height: int
    max_turns: int
    seed: int
    num_workers: int


def scene_tokenizer(families: Sequence[str], extra: Sequence[str], vocab_size: int, seed: int) -> Qwen2Tokenizer:
    """Merges learnt from questions and answers about training scenes, and from `extra` texts."""
    questions = make_questions(families, 4 * _PIECE, seed, "train").questions
    texts = [text for question in questions for text in (question.text, question.answer)]
    return train_tokenizer([*texts, *extra], vocab_size)


def held_conversations(amount: SceneAmount, processor: ConversationProcessor) -> VisionLanguageBatch:
    """Every question once, several to a picture, encoded on the CPU with the pictures as bytes.

    Raises:
        ValueError: an unknown family, or a number below 1.
    """
    pieces = _map(partial(_conversations, amount, processor), amount.num_questions, amount, "conversations")
    return stack([_whole(VisionLanguageBatch, piece) for piece in pieces], processor.pad_token_id)


def held_windows(amount: SceneAmount, processor: Processor) -> tuple[Batch, SceneTruth]:
    """Scenes dressed as robot windows that name an object to point at, and where everything is in them."""
    pieces = list(_map(partial(_windows, amount, processor), amount.num_windows, amount, "windows"))
    truths = [truth for _, truth in pieces]
    joined = replace(
        truths[0],
        **{
            name: np.concatenate([getattr(truth, name) for truth in truths])
            for name in ("is_present", "class_index", "pixel", "target_index")
        },
    )
    return stack([_whole(Batch, piece) for piece, _ in pieces], processor.pad_token_id), joined


def _map(work: Any, total: int, amount: SceneAmount, what: str) -> Iterator[Any]:
    """`work(piece, size)` for all pieces in order, in worker processes, with a progress bar."""
    sizes = [min(_PIECE, total - start) for start in range(0, total, _PIECE)]
    bar = partial(tqdm, total=len(sizes), desc=f"scene {what}", unit="piece", mininterval=1.0)
    if amount.num_workers < 2:
        yield from bar(map(work, range(len(sizes)), sizes))
        return
    with ProcessPoolExecutor(amount.num_workers, get_context("spawn")) as pool:
        yield from bar(pool.map(work, range(len(sizes)), sizes))


def _conversations(amount: SceneAmount, processor: ConversationProcessor, piece: int, size: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    questions = make_questions(amount.families, size, _seed_of(amount.seed, piece), "train")
    dialogues = make_dialogues(questions, amount.max_turns, amount.height)
    parts = [
        processor.encode(dialogues.conversations(range(start, min(start + _ENCODE_AT_ONCE, len(dialogues)))), True)
        for start in range(0, len(dialogues), _ENCODE_AT_ONCE)
    ]
    return _arrays(stack(parts, processor.pad_token_id))


def _windows(amount: SceneAmount, processor: Processor, piece: int, size: int) -> tuple[dict[str, Any], SceneTruth]:
    torch.set_num_threads(1)
    source = _scene_windows(amount, processor.embodiment, processor.horizon, piece, size)
    everyone = np.arange(len(source))
    return _arrays(processor.encode_samples(source.samples(everyone), as_bytes=True)), source.truth(everyone)


def _scene_windows(amount: SceneAmount, robot: Embodiment, horizon: int, piece: int, size: int) -> SceneWindows:
    questions: QuestionSet = make_questions(("point",), size, _seed_of(amount.seed, piece), "train")
    return SceneWindows(questions, robot, horizon, amount.height)


def _seed_of(seed: int, piece: int) -> int:
    return seed * 1_000_003 + piece


def _arrays(batch: Batch | VisionLanguageBatch) -> dict[str, Any]:
    """Tensors as arrays: they travel between processes as plain bytes."""
    values = {each.name: getattr(batch, each.name) for each in fields(batch)}
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def _whole(kind: type[Any], arrays: dict[str, Any]) -> Any:
    return kind(**{k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()})
