import json

import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.episode_truth import EpisodeTruth, Hold
from cerebella.envs.workcell.expert_driver import expert_ticks
from cerebella.envs.workcell.moments import MAX_GAP_FRAMES, MIN_HOLD_FRAMES, MomentRecorder, holds_of

from .cube_task import HALF_M, CubeTask


def test_holds_bridge_short_gaps_and_drop_touches() -> None:
    gap = [""] * MAX_GAP_FRAMES
    held = ["", *["a"] * 5, *gap, *["a"] * 5, *["b"] * (MIN_HOLD_FRAMES - 1), "", *["a"] * MIN_HOLD_FRAMES]
    start = 1 + 10 + MAX_GAP_FRAMES + MIN_HOLD_FRAMES
    wanted = [Hold("left", "a", 1, 11 + MAX_GAP_FRAMES), Hold("left", "a", start, start + MIN_HOLD_FRAMES)]
    assert holds_of("left", held) == wanted


def test_an_episode_is_written_down_as_it_was() -> None:
    environment = WorkcellEnvironment(CubeTask(), with_images=False)
    recorder = MomentRecorder(environment, 20, np.random.default_rng(0))
    tops = []
    for _ in expert_ticks(environment, 1):
        recorder.look()
        tops.append(environment.cell.position_m("cube")[2])
    truth = recorder.finish()
    assert truth.num_frames == len(tops)
    (hold,) = truth.holds
    assert (hold.side, hold.name, hold.stop) == ("left", "cube", len(tops))
    lifted = int(np.flatnonzero(np.array(tops) > HALF_M + 0.02)[0])
    assert lifted - 20 < hold.start < lifted
    for moment in truth.moments:
        assert moment.sightings[0].position_m[2] == pytest.approx(tops[moment.frame])
    assert {moment.view for moment in truth.moments} <= {"base", "left_wrist", "right_wrist"}
    frames = [moment.frame for moment in truth.moments]
    assert frames == sorted(set(frames))
    assert 0.5 <= len(frames) * 20 / len(tops) <= 2.0
    assert EpisodeTruth.from_json(json.loads(json.dumps(truth.to_json()))) == truth
