"""What a generated set of workcell demonstrations holds beside a LeRobotDataset v3.0, and where. Needs no simulator.

meta/generation.json    task and settings
meta/embodiment.json    what the numbers mean
meta/attempts.jsonl     every seed that was tried, in order, and how it went; the kept ones are the episodes, in this order
truth/                  of each episode: what was true at some moments, and where everything is in every picture
companion/              conversations about the pictures
"""

import json
from pathlib import Path

from cerebella.envs.workcell.episode_truth import EpisodeTruth

SETTINGS, ATTEMPTS, EMBODIMENT = "meta/generation.json", "meta/attempts.jsonl", "meta/embodiment.json"
TRUTH, COMPANION, RECORDS = "truth", "companion", "conversations.jsonl"
PICTURE = "observation.images."
"""A camera's column is called by this and its view."""
SENT = "sent"
"""Column of a set with a disturbance: what the arms were sent, where `action` is what the expert asked for."""


def truth_file(directory: Path, number: int) -> Path:
    """Where an `EpisodeTruth` is, by seed or by episode."""
    return directory / f"truth-{number:06d}.json"


def landmarks_file(directory: Path, number: int) -> Path:
    """Where the `Landmarks` are, by seed or by episode."""
    return directory / f"landmarks-{number:06d}.npz"


def read_truth(path: Path) -> EpisodeTruth:
    """One file."""
    return EpisodeTruth.from_json(json.loads(path.read_text(encoding="utf-8")))
