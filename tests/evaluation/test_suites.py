from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.registry import ENVIRONMENTS, make_environment
from cerebella.evaluation.suites import EvalConfig, check_policy, episode_seeds, evaluate, open_policy
from cerebella.interfaces import PolicyMetadata

METADATA = PolicyMetadata("p", CONVEYOR, 16, "causal", 0, "none")


def test_the_expert_solves_and_nothing_at_all_does_not() -> None:
    by_policy = {
        policy: evaluate(EvalConfig("dynamic/conveyor", policy, "sync", 0, episodes=12), show_progress=False)
        for policy in ("expert", "zero")
    }
    assert by_policy["expert"]["summary"][0]["rate"] >= 0.9
    assert by_policy["zero"]["summary"][0]["rate"] == 0.0
    assert by_policy["zero"]["policy"] == {"path": "zero", "weights_hash": None, "policy_id": "zero"}
    seeds = [[row["seed"] for row in result["episodes"]] for result in by_policy.values()]
    assert seeds[0] == seeds[1]


def test_a_policy_without_a_camera_gets_the_scene_as_numbers() -> None:
    """The views of its embodiment decide, in every task that has an expert."""
    for suite in ENVIRONMENTS:
        environment = make_environment(suite, with_images=False)
        _, metadata = open_policy("expert", environment)
        assert metadata.embodiment.views == ()
        result = evaluate(EvalConfig(suite, "zero", "sync", 0, episodes=2), show_progress=False)
        assert {row["task"] for row in result["episodes"]} == {suite.removeprefix("dynamic/")}
        assert [row["task"] for row in result["summary"]] == [suite.removeprefix("dynamic/")]


def test_two_runs_report_the_same() -> None:
    config = EvalConfig("dynamic/conveyor", "expert", "naive", 4, episodes=6, perturbation=True, execute_horizon=8)
    first, second = evaluate(config, False), evaluate(config, False)
    assert first["episodes"] == second["episodes"]
    assert first["summary"] == second["summary"]
    assert any(row["metrics"]["perturbation_tick"] >= 0 for row in first["episodes"])


def test_delays_with_bursts_are_written_down_as_they_were_met() -> None:
    result = evaluate(EvalConfig("dynamic/conveyor", "expert", "naive", "burst", episodes=3), show_progress=False)
    (cell,), (trace,) = result["conditions"]["cells"], result["conditions"]["delay_trace"]
    assert (cell["name"], cell["mode"], trace["cell"], trace["kind"]) == (
        "naive/burst",
        "naive",
        "naive/burst",
        "trace",
    )
    assert 3 <= cell["delay"] < 4
    assert len(trace["values"]) == result["summary"][0]["num_requests"]
    assert result["summary"][0]["delay_ticks"]["max"] <= max(trace["values"])
    with pytest.raises(ValueError, match="delay must be a number of ticks, or 'burst'; got 'bursts'"):
        EvalConfig("dynamic/conveyor", "expert", delay="bursts")  # pyright: ignore[reportArgumentType]


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'dynamic/conveyer'. Did you mean 'dynamic/conveyor'\?.*workcell/insert"):
        EvalConfig("dynamic/conveyer", "expert")
    with pytest.raises(
        ValueError,
        match="unknown mode 'async'; known: sync, naive, ensemble, guided, guided_identity, best_of_n, prefix",
    ):
        EvalConfig("dynamic/conveyor", "expert", mode="async")
    with pytest.raises(FileNotFoundError, match=r"nowhere.*expert, zero"):
        open_policy(str(tmp_path / "nowhere"), make_environment("dynamic/conveyor"))


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="episodes must be 1 or more; got 0"):
        EvalConfig("dynamic/conveyor", "expert", episodes=0)
    with pytest.raises(ValueError, match="delay must be 0 or more ticks; got -1"):
        EvalConfig("dynamic/conveyor", "expert", delay=-1)


def test_a_policy_must_fit_the_robot_and_the_mode() -> None:
    with pytest.raises(ValueError, match="never trained with an action prefix"):
        check_policy(METADATA, CONVEYOR, "prefix")
    check_policy(METADATA, CONVEYOR, "naive")
    with pytest.raises(ValueError, match="'other_robot'"):
        check_policy(METADATA, replace(CONVEYOR, name="other_robot"), "sync")


def test_sets_of_seeds_do_not_overlap() -> None:
    assert episode_seeds(0, 3) == episode_seeds(0, 5)[:3]
    assert not set(episode_seeds(0, 1000)) & set(episode_seeds(1, 1000))
    with pytest.raises(ValueError, match="seed -1"):
        episode_seeds(-1, 3)
