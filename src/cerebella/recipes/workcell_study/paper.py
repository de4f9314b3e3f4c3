"""What the paper reports of its real robots (Xiaomi-Robotics-0, arXiv 2602.12684): two arms, 30 commands per second, 80 ms."""

from collections.abc import Mapping

SOURCE = "Xiaomi-Robotics-0, arXiv 2602.12684"
TOWELS_PER_MIN: Mapping[str, float] = {
    "asynchronous, all tricks": 1.2,
    "training-time RTC": 1.0,
    "synchronous": 1.0,
    "pi0.5": 1.0,
}
"""Towel folding, six towels, two runs of 30 minutes for each method."""
TOWEL_GAIN = TOWELS_PER_MIN["asynchronous, all tricks"] / TOWELS_PER_MIN["synchronous"]
LEGO = (
    "LEGO disassembly, bars without numbers: all methods sort a similar share of the bricks, the synchronous one a little "
    "more precisely; bricks per minute: asynchronous, then training-time RTC and synchronous alike, then pi0.5"
)
VISION_LANGUAGE: Mapping[str, tuple[float, ...]] = {
    "Qwen3-VL-4B, before": (40.0, 78.8, 89.7, 81.6, 88.7, 87.1, 51.7, 78.0, 92.7, 76.8),
    "with vision-language data": (40.8, 78.6, 88.5, 78.7, 84.4, 81.8, 46.2, 72.0, 79.4, 59.2),
    "without": (0.0,) * 10,
}
"""Accuracy in % on ERQA, SEED, POPE, AI2D, MMBench, MME, MMMU, TextVQA, SciQA, ChartQA, behind pre-training."""
