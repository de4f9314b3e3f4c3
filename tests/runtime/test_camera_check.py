import math

import numpy as np
import pytest

from cerebella.runtime import camera_check
from cerebella.runtime.camera_check import CameraCheck, Verdict
from cerebella.types import Observation

PERIOD_S = 1 / 30
RNG = np.random.default_rng(0)


def make_observation(tick: int, stamp_s: float | None = None, views: tuple[str, ...] = ("base",), still: bool = False):
    rng = np.random.default_rng(0 if still else tick)
    images = {view: rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for view in views}
    return Observation(np.zeros(1, np.float32), "look", tick, PERIOD_S * tick if stamp_s is None else stamp_s, images)


def make_check(
    num_tolerated: int = 2, num_equal_frames: int | None = 3, views: tuple[str, ...] = ("base",)
) -> CameraCheck:
    return CameraCheck(views, 0.1, 0.05, num_tolerated, num_equal_frames)


def see(check: CameraCheck, *observations: Observation) -> list[Verdict]:
    """Each one 5 ms after the tick that it belongs to began."""
    return [check.check(observation, PERIOD_S * observation.tick + 0.005) for observation in observations]


def kinds(verdicts: list[Verdict]) -> list[str]:
    return [verdict.kind for verdict in verdicts]


def test_fresh_pictures_are_fine() -> None:
    verdicts = see(make_check(), *[make_observation(tick) for tick in range(100)])
    assert set(kinds(verdicts)) == {"ok"}
    assert (verdicts[-1].reason, verdicts[-1].view, verdicts[-1].num_bad_ticks) == ("", "", 0)
    assert verdicts[-1].age_s == pytest.approx(0.005)


def test_f14_stamps_that_repeat_are_stale_then_a_fault_then_fine_again() -> None:
    """Three dropped frames: the driver hands out the last one."""
    frames = [make_observation(0), *[make_observation(tick, 0.0) for tick in (1, 2, 3)], make_observation(4)]
    verdicts = see(make_check(num_tolerated=2), *frames)
    assert kinds(verdicts) == ["ok", "stale", "stale", "fault", "ok"]
    assert {verdict.reason for verdict in verdicts[1:4]} == {camera_check.REPEATED}
    assert [verdict.num_bad_ticks for verdict in verdicts] == [0, 1, 2, 3, 0]
    assert verdicts[3].age_s == pytest.approx(3 * PERIOD_S + 0.005)
    assert verdicts[3].view == "base"


def test_f14_stamps_that_go_back_stay_wrong_until_they_are_ahead_again() -> None:
    stamps_s = [0.0, PERIOD_S, 0.5 * PERIOD_S, 0.9 * PERIOD_S, 4 * PERIOD_S]
    verdicts = see(make_check(), *[make_observation(tick, stamp_s) for tick, stamp_s in enumerate(stamps_s)])
    assert [verdict.reason for verdict in verdicts] == ["", "", camera_check.REGRESSED, camera_check.REGRESSED, ""]


def test_f14_a_frozen_picture_with_fresh_stamps() -> None:
    frames = [make_observation(tick, still=True) for tick in range(6)]
    verdicts = see(make_check(num_tolerated=1), *frames, make_observation(6))
    assert kinds(verdicts) == ["ok", "ok", "stale", "fault", "fault", "fault", "ok"]
    assert verdicts[2].reason == camera_check.FROZEN
    assert verdicts[5].age_s == pytest.approx(4 * PERIOD_S + 0.005)


def test_f14_a_simulated_still_scene_is_no_frozen_camera() -> None:
    verdicts = see(make_check(num_equal_frames=None), *[make_observation(tick, still=True) for tick in range(20)])
    assert set(kinds(verdicts)) == {"ok"}


def test_one_changed_pixel_value_in_a_looked_at_row_is_no_frozen_camera() -> None:
    check = make_check(num_equal_frames=2)
    for tick in range(20):
        observation = make_observation(tick, still=True)
        observation.images["base"][0, 5, 1] = tick
        assert see(check, observation)[0].kind == "ok"


def test_f14_camera_and_state_apart() -> None:
    check = make_check()
    assert check.check(make_observation(3), 0.11, {"base": 0.06}).kind == "ok"
    verdict = check.check(make_observation(6), 0.21, {"base": 0.1})
    assert (verdict.kind, verdict.reason) == ("stale", camera_check.SKEWED)


def test_f14_too_old_is_said_with_the_age() -> None:
    check = make_check()
    late = check.check(make_observation(0), 0.25)
    assert (late.kind, late.reason, late.age_s) == ("stale", camera_check.OLD, math.inf)
    check.check(make_observation(9), 0.3)
    verdict = check.check(make_observation(10), 0.6)
    assert (verdict.reason, verdict.age_s) == (camera_check.OLD, pytest.approx(0.3))


def test_a_missing_view_is_named() -> None:
    check = make_check(views=("base", "ego"))
    verdict = see(check, make_observation(0))[0]
    assert (verdict.kind, verdict.reason, verdict.view) == ("stale", camera_check.MISSING, "ego")
    assert see(check, make_observation(1, views=("base", "ego")))[0].kind == "ok"


def test_a_stamp_from_the_future_is_another_clock() -> None:
    assert make_check().check(make_observation(1), 0.0).reason == camera_check.FUTURE


def test_each_camera_has_its_own_stamps() -> None:
    check = make_check(views=("base", "ego"))
    both = ("base", "ego")
    check.check(make_observation(0, views=both), 0.01, {"base": 0.0, "ego": -0.02})
    verdict = check.check(make_observation(1, views=both), 0.04, {"base": 0.033, "ego": -0.02})
    assert (verdict.reason, verdict.view, verdict.age_s) == (camera_check.REPEATED, "ego", pytest.approx(0.06))


def test_a_robot_without_cameras_is_never_blind() -> None:
    assert see(make_check(views=()), make_observation(0, views=()))[0] == Verdict("ok", "", "", 0.0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.1, 1, None), "max_age_s > 0"),
        ((0.1, 0.1, -1, None), "num_tolerated must be 0 or more ticks; got -1"),
        ((0.1, 0.1, 1, 1), "2 or more, or None; got 1"),
    ],
)
def test_bad_limits_are_refused(arguments: tuple[float, float, int, int | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraCheck(("base",), *arguments)
