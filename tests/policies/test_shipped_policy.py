"""The policy in the repository: it does its task, and its modes agree where they must."""

from pathlib import Path

import numpy as np
import pytest

from cerebella.envs.registry import make_environment
from cerebella.evaluation.rollout import rollout_virtual
from cerebella.evaluation.suites import episode_seeds
from cerebella.policies import VLAPolicy, load_policy
from cerebella.runtime.executor_config import ExecutorConfig, Mode

DIRECTORY = Path(__file__).parents[2] / "policies" / "conveyor-micro"
SEEDS = episode_seeds(0, 16)


@pytest.fixture(scope="module")
def policy() -> VLAPolicy:
    return load_policy(DIRECTORY, embodiment="conveyor", mask_variant="lambda")


def run(policy: VLAPolicy, mode: Mode, delay: int):
    return rollout_virtual(
        policy,
        lambda: make_environment("dynamic/conveyor"),
        ExecutorConfig(mode, execute_horizon=8),
        delay,
        SEEDS,
        batch=16,
    )


def test_it_picks_parts_from_pixels_despite_the_delay(policy: VLAPolicy) -> None:
    """Far above what holding still (0 of 16) or the wrong part would give; the real figures are in docs/LOG.md."""
    episodes = run(policy, "prefix", delay=4)
    assert sum(episode.status.is_success for episode in episodes) >= 11


def test_without_delay_the_modes_send_the_same_commands(policy: VLAPolicy) -> None:
    modes: list[Mode] = ["sync", "naive", "prefix"]
    first, *others = (run(policy, mode, delay=0) for mode in modes)
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            np.testing.assert_array_equal(ours.log.values, theirs.log.values)


def test_the_directory_is_complete_and_small() -> None:
    names = {path.name for path in DIRECTORY.iterdir()}
    assert {"README.md", "recipe.json", "curves.jsonl", "curves.png", "processor_config.json"} <= names
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir()) <= 25_000_000
