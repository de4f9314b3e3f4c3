"""What is driven: a simulated environment, or a robot."""

from contextlib import ExitStack

from cerebella.envs.registry import ENVIRONMENTS, make_environment
from cerebella.evaluation.suites import needs_pictures
from cerebella.interfaces import Environment
from cerebella.live.config import RunConfig
from cerebella.robots.registry import SUFFIXES, MakeDevice, make_robot
from cerebella.robots.robot import Robot
from cerebella.runtime.clock import Clock


def open_target(
    config: RunConfig, clock: Clock, stack: ExitStack, make_device: MakeDevice
) -> tuple[Environment, Robot | None]:
    """The environment, and once more if it is a robot (connected; `stack` disconnects it).

    Raises:
        ValueError: an unknown name, or a robot that is not as its file says. FileNotFoundError: no such file.
    """
    if not config.is_robot:
        if config.target not in ENVIRONMENTS:
            raise ValueError(
                f"there is no environment {config.target!r}; known: {', '.join(ENVIRONMENTS)}, or a robot file "
                f"({', '.join(SUFFIXES)})"
            )
        return make_environment(config.target, with_images=needs_pictures(config.policy), clock_s=clock.now_s), None
    robot = make_robot(config.target, config.prompt, make_device)
    stack.callback(robot.disconnect)
    robot.connect()
    return robot, robot
