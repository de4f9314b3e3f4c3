import pytest

from cerebella.envs import ENVIRONMENTS, WORKCELL_ENVIRONMENTS, make_environment
from cerebella.types import Action


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_resets_and_steps(name: str) -> None:
    environment = make_environment(name)
    environment.reset(seed=0)
    observation = environment.observe()
    environment.embodiment.check_state(observation.state)
    assert set(observation.images) == set(environment.embodiment.views)
    command: Action = environment.embodiment.hold(observation, None)
    environment.apply(command)
    assert environment.observe().tick == 1
    assert not environment.status().is_done


@pytest.mark.parametrize("name", WORKCELL_ENVIRONMENTS)
def test_every_cell_resets_and_steps(name: str) -> None:
    pytest.importorskip("mujoco")
    environment = make_environment(name, with_images=False)
    environment.reset(seed=0)
    environment.apply(environment.embodiment.hold(environment.observe(), None))
    assert environment.observe().tick == 1
    assert not environment.status().is_done
    with pytest.raises(ValueError, match="num_parts"):
        make_environment(name, num_parts=3)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'dynamic/conveyor'\?.*workcell/insert"):
        make_environment("dynamic/conveyer")
    with pytest.raises(ValueError, match="num_parts"):
        make_environment("dynamic/conveyor", num_parts=3)
