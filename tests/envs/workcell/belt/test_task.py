"""The task and its expert."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.belt.parts import KINDS
from cerebella.envs.workcell.belt.prompts import NUM_WORDINGS, all_prompts, prompt_text
from cerebella.envs.workcell.belt.task import Belt, BeltStream
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks, run_expert
from cerebella.types import Action

ENVIRONMENT = WorkcellEnvironment(Belt(), with_images=False)


def test_the_expert_sorts_a_short_episode() -> None:
    status = run_expert(ENVIRONMENT, seed=2)
    assert status.is_success, status
    assert status.reason == "sorted"
    assert status.metrics["num_picked"] == 3
    assert status.metrics["unreachable"] == 0
    assert status.metrics["parts_per_minute"] == pytest.approx(3 * 1800 / status.metrics["ticks"])


def test_the_expert_lets_parts_fall_side_by_side() -> None:
    # Here, an expert that lets go near the middle of the bin each time builds a tower of three.
    assert run_expert(ENVIRONMENT, seed=1065, style_seed=1065).reason == "sorted"
    (lying,) = [parts for parts in ENVIRONMENT.episode.bins.values() if parts]
    heights_m = [ENVIRONMENT.cell.position_m(part.name)[2] for part in lying]
    assert len(heights_m) == 3
    assert max(heights_m) < 0.02


def test_without_an_expert_a_part_is_missed() -> None:
    action = next(expert_ticks(ENVIRONMENT, seed=2))
    while not ENVIRONMENT.status().is_done:
        ENVIRONMENT.apply(Action(values=action.values, tick=ENVIRONMENT.cell.tick))
    assert ENVIRONMENT.status().reason == "missed"
    assert not ENVIRONMENT.status().is_success


def test_a_seed_decides_everything() -> None:
    def trace(seed: int) -> np.ndarray:
        rows = []
        for number, _ in enumerate(expert_ticks(ENVIRONMENT, seed)):
            rows.append(ENVIRONMENT.cell.data.qpos.copy())
            if number == 120:
                break
        return np.stack(rows)

    first, other = trace(7), trace(8)
    np.testing.assert_array_equal(trace(7), first)
    assert np.abs(first[0] - other[0]).max() > 0.01


def test_instructions_name_kinds_and_bins() -> None:
    red_cube, blue_bar = KINDS[0], next(kind for kind in KINDS if kind == ("blue", "bar"))
    assert prompt_text({red_cube: "left"}, 0) == "put the red cubes into the left bin"
    assert "blue bars" in prompt_text({red_cube: "right", blue_bar: "left"}, 3)
    with pytest.raises(ValueError, match="wording"):
        prompt_text({red_cube: "left"}, NUM_WORDINGS)
    with pytest.raises(ValueError, match="one kind, or two"):
        prompt_text({red_cube: "left", blue_bar: "left"}, 0)
    texts = all_prompts()
    assert len(set(texts)) == len(texts) == 12 * 2 * 6 + 12 * 11 * 4
    for seed in range(20):
        ENVIRONMENT.reset(seed)
        assert ENVIRONMENT.episode.prompt in texts
        assert all(kind.plural in ENVIRONMENT.episode.prompt for kind in ENVIRONMENT.episode.wanted)


def test_truth_tells_bins_and_visible_parts() -> None:
    ENVIRONMENT.reset(0)
    kinds = [(thing.kind, thing.colour) for thing in ENVIRONMENT.truth()]
    assert kinds[:2] == [("bin", "white"), ("bin", "grey")]
    assert len(kinds) == 3
    part = next(part for part in ENVIRONMENT.episode.parts if part.place == "out")
    assert kinds[2] == (part.kind.shape, part.kind.colour)
    assert all(thing.size_m.min() > 0.01 for thing in ENVIRONMENT.truth())


def test_streams_have_a_length() -> None:
    with pytest.raises(ValueError, match="stream_s"):
        Belt(stream_s=0.0)
    assert BeltStream().max_ticks == 54_000
    environment = WorkcellEnvironment(Belt(stream_s=0.1), with_images=False)
    status = run_expert(environment, 0)
    assert status.is_done
    assert status.reason == "time"
    assert not status.is_success
    assert status.metrics["ticks"] == 3
