import pytest

from cerebella.envs import ENVIRONMENTS, make_environment
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


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="dynamic/conveyor"):
        make_environment("dynamic/conveyer")
    with pytest.raises(ValueError, match="num_parts"):
        make_environment("dynamic/conveyor", num_parts=3)
