import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from bench.workcell import Job, Options, main, play
from cerebella.arms import ControlMode
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.recipes.workcell_experts import (
    ExpertEpisode,
    play_expert,
    play_randomly,
    speed_groups,
    summarise_expert,
    summarise_random,
)
from tests.envs.workcell.cube_task import CubeEpisode, CubeTask
from tests.recipes.short_cube import ShortCube


def episode(seed: int, is_success: bool) -> ExpertEpisode:
    metrics = {"parts": float(seed), **({"rare": 4.0} if seed == 1 else {})}
    return ExpertEpisode(
        "t", seed, is_success, "" if seed == 2 else "dropped", 300, 2.0, 3 * seed, 0.006 * seed, metrics
    )


def test_an_episode_is_counted_and_its_pictures_are_timed_on_their_own() -> None:
    environment = WorkcellEnvironment(ShortCube(), with_images=False, render_size=(32, 32))
    played = play_expert(environment, 0, draw_every=20)
    again = play_expert(environment, 0)
    gives_up = play_expert(environment, 3)
    assert (gives_up.is_success, gives_up.reason) == (False, "")
    assert played.is_success
    assert played.reason == "lifted"
    assert played.num_ticks == again.num_ticks == played.metrics["ticks"]
    assert played.num_pictures == 3 * math.ceil(played.num_ticks / 20)
    assert again.num_pictures == 0
    assert played.picture_cpu_s > 0.0
    assert played.cpu_s > 0.0
    environment.close()


def test_a_summary_has_the_interval_and_says_why_it_failed() -> None:
    found = summarise_expert([episode(0, True), episode(1, True), episode(2, False), episode(3, False)])
    assert (found["successes"], found["episodes"], found["rate"]) == (2, 4, 0.5)
    assert found["low"] == pytest.approx(0.15, abs=0.001)
    assert found["high"] == pytest.approx(0.85, abs=0.001)
    assert found["virtual_s_per_episode"] == pytest.approx(10.0)
    assert found["throughput_per_min"] == pytest.approx(3.0)
    assert found["real_time_factor"] == pytest.approx(5.0)
    assert found["cpu_ms_per_picture"] == pytest.approx(2.0)
    assert found["pictures_per_cpu_s"] == pytest.approx(500.0)
    assert found["failures"] == {"the expert is at its end": 1, "dropped": 1}
    assert found["mean_metrics"] == {"parts": 1.5, "rare": 4.0}
    with pytest.raises(ValueError, match="no episode"):
        summarise_expert([])


class Exploding(CubeTask):
    """The cube's velocity is no number from tick 3 of each episode on."""

    def after_tick(self, cell: Cell, episode: CubeEpisode) -> None:
        super().after_tick(cell, episode)
        if cell.tick == 3:
            cell.data.qvel[-1] = np.nan


@pytest.mark.parametrize("control_mode", ["end_effector", "joint"])
def test_random_commands_move_everything_and_break_nothing(control_mode: ControlMode) -> None:
    run = play_randomly(WorkcellEnvironment(CubeTask(), control_mode, with_images=False), 5, 200)
    assert (run.num_not_finite, run.warnings, run.faults) == (0, {}, {})
    assert run.largest["arm_rad_s"] > 0.5
    assert run.largest["thing_m_s"] > 0.05
    assert set(run.largest) == {"arm_rad_s", "finger_m_s", "thing_m_s", "thing_rad_s"}
    found = summarise_random([run, run])
    assert found["ticks"] == 400
    assert found["largest"] == dict(run.largest)


def test_a_number_that_is_none_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
    run = play_randomly(WorkcellEnvironment(Exploding(), with_images=False), 5, 8)
    assert run.num_not_finite >= 1
    assert run.warnings
    assert "velocities are no numbers or huge" in "".join(run.faults)
    assert run.endings == {"simulation failed: velocities are no numbers or huge": 2}


def test_every_degree_of_freedom_is_in_one_group() -> None:
    model = WorkcellEnvironment(CubeTask(), with_images=False).cell.model
    dofs = np.concatenate(list(speed_groups(model).values()))
    assert sorted(dofs.tolist()) == list(range(model.nv))


def test_a_bench_goes_on_where_it_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.jsonl"
    first = play(Job("expert", "workcell/insert", 1000))
    first["reason"] = "from the file"
    file.write_text(json.dumps(first) + '\n{"kind": "exp')
    assert main(Options(("workcell/insert",), episodes=2, out=file)) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["seed"], row["reason"]) for row in rows] == [(1000, "from the file"), (1001, "seated")]
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["task"], report["episodes"], report["successes"]) == ("workcell/insert", 2, 2)
    with pytest.raises(ValueError, match="workcell/insrt"):
        main(Options(("workcell/insrt",), out=file))
