import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import expert_ticks, run_expert
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M
from cerebella.envs.workcell.lego.task import DONE_TICKS, SETS, Brick, Lego
from cerebella.geometry import transform
from cerebella.types import Action

ENVIRONMENT = WorkcellEnvironment(Lego(2), with_images=False)


def take_apart() -> None:
    ENVIRONMENT.cell.data.eq_active[ENVIRONMENT.episode.joints.equalities] = 0


def put_into_bin(number: int, bin_number: int) -> None:
    ENVIRONMENT.cell.place_body(f"brick_{number}", transform(np.eye(3), [*BIN_CENTRES_M[bin_number], 0.0095]))


def hold_still(num_ticks: int) -> None:
    for _ in range(num_ticks):
        if ENVIRONMENT.status().is_done:
            return
        state = ENVIRONMENT.observe_state().reshape(2, 13)
        ENVIRONMENT.apply(Action(values=state[:, :7].ravel(), tick=ENVIRONMENT.cell.tick))


def test_sorted_means_apart_in_the_right_bins_and_let_go_for_a_while() -> None:
    ENVIRONMENT.reset(0)
    episode = ENVIRONMENT.episode
    take_apart()
    for number in (0, 1):
        put_into_bin(number, int(episode.bin_numbers[number]))
    ENVIRONMENT.cell.settle()
    assert ENVIRONMENT.status().metrics["num_sorted"] == 2.0
    assert not ENVIRONMENT.status().is_done
    hold_still(DONE_TICKS)
    status = ENVIRONMENT.status()
    assert status.is_success
    assert status.metrics["throughput"] == pytest.approx(60.0 * 2 / (DONE_TICKS / 30.0))


def test_a_wrong_bin_does_not_count() -> None:
    ENVIRONMENT.reset(0)
    episode = ENVIRONMENT.episode
    take_apart()
    put_into_bin(0, int(episode.bin_numbers[0]))
    put_into_bin(1, int(episode.bin_numbers[1] + 1) % 4)
    ENVIRONMENT.cell.settle()
    hold_still(DONE_TICKS + 2)
    status = ENVIRONMENT.status()
    assert not status.is_done
    assert status.metrics["num_separated"] == 2.0
    assert status.metrics["num_sorted"] == 1.0


def test_joined_bricks_do_not_count() -> None:
    ENVIRONMENT.reset(0)
    metrics = ENVIRONMENT.status().metrics
    assert (metrics["num_separated"], metrics["num_sorted"]) == (0.0, 0.0)
    hold_still(30)
    assert ENVIRONMENT.episode.joints.is_joined(ENVIRONMENT.cell).all()


def test_a_closed_gripper_is_not_done() -> None:
    ENVIRONMENT.reset(0)
    episode = ENVIRONMENT.episode
    take_apart()
    for number in (0, 1):
        put_into_bin(number, int(episode.bin_numbers[number]))
    arm = ENVIRONMENT.cell.left
    arm.place(arm.home_rad, 0.2)
    ENVIRONMENT.cell.settle()
    hold_still(DONE_TICKS + 2)
    assert not ENVIRONMENT.status().is_done


def test_a_brick_off_the_table_ends_the_episode() -> None:
    ENVIRONMENT.reset(0)
    ENVIRONMENT.cell.place_body("brick_0", transform(np.eye(3), [1.2, 0.0, -0.2]))
    ENVIRONMENT.cell.settle()
    status = ENVIRONMENT.status()
    assert status.is_done
    assert not status.is_success
    assert "fell" in status.reason


def test_the_expert_takes_two_bricks_apart_and_repeats_itself() -> None:
    """By contact alone: the only equalities are the couplings of the fingers and the joints between bricks."""
    model = ENVIRONMENT.cell.model
    bricks = {model.body(f"brick_{i}").id for i in (0, 1)}
    for i in range(2, model.neq):
        assert {model.eq_obj1id[i], model.eq_obj2id[i]} == bricks
    assert run_expert(ENVIRONMENT, seed=1).is_success
    first = ENVIRONMENT.cell.data.qpos.copy()
    assert run_expert(ENVIRONMENT, seed=1).is_success
    np.testing.assert_array_equal(ENVIRONMENT.cell.data.qpos, first)


def test_a_fresh_cell_does_the_same() -> None:
    fresh = WorkcellEnvironment(Lego(2), with_images=False)
    paths = []
    for environment in (ENVIRONMENT, fresh):
        ticks = expert_ticks(environment, seed=1)
        paths.append([environment.cell.data.qpos.copy() for _, _ in zip(range(75), ticks, strict=False)])
    np.testing.assert_array_equal(paths[0], paths[1])


def test_truth_names_bricks_and_bins() -> None:
    ENVIRONMENT.reset(3)
    found = ENVIRONMENT.truth()
    bricks = [thing for thing in found if isinstance(thing, Brick)]
    assert [thing.kind for thing in found] == ["brick"] * 2 + ["bin"] * 4
    assert bricks[0].joined_to == ("brick_1",)
    assert bricks[0].bin_colour == ""
    assert bricks[0].size_m[2] == pytest.approx(0.0142)
    take_apart()
    colour = bricks[0].colour
    put_into_bin(0, ENVIRONMENT.episode.bin_colours.index(colour))
    ENVIRONMENT.cell.settle()
    moved = ENVIRONMENT.truth()[0]
    assert isinstance(moved, Brick)
    assert moved.joined_to == ()
    assert moved.bin_colour == colour


@pytest.mark.parametrize("num_bricks", [5, 10, 20])
def test_every_set_can_be_drawn(num_bricks: int) -> None:
    environment = WorkcellEnvironment(Lego(num_bricks), with_images=False)
    environment.reset(1)
    status = environment.status()
    assert not status.is_done
    assert len(environment.truth()) == num_bricks + 4
    assert len(environment.episode.pieces(environment.cell)) == len(SETS[num_bricks].lengths)
    assert set(environment.episode.colours) <= set(environment.episode.bin_colours)


def test_other_numbers_of_bricks_are_refused() -> None:
    with pytest.raises(ValueError, match="num_bricks"):
        Lego(3)


def test_prompts_are_plain_and_differ() -> None:
    prompts = ENVIRONMENT.task.all_prompts()
    assert len(prompts) == len(set(prompts)) >= 5
    assert all(prompt == prompt.lower() and prompt.replace(" ", "").isalpha() for prompt in prompts)
