"""What is driven: a simulated environment, or a robot."""

from contextlib import ExitStack
from typing import Any

from cerebella.embodiment import Embodiment
from cerebella.envs.registry import WORKCELL_ENVIRONMENTS, check_environment, make_environment
from cerebella.evaluation.suites import embodiment_in, needs_pictures
from cerebella.interfaces import Environment
from cerebella.live.config import RunConfig
from cerebella.robots.registry import SUFFIXES, MakeDevice, make_robot
from cerebella.robots.robot import Robot
from cerebella.runtime.clock import Clock
from cerebella.serving.remote_transport import RemoteTransport


def open_target(
    config: RunConfig, clock: Clock, stack: ExitStack, make_device: MakeDevice
) -> tuple[Environment, Robot | None]:
    """The environment, and once more if it is a robot (connected; `stack` disconnects it).

    Raises:
        ValueError: an unknown name, or a robot that is not as its file says. FileNotFoundError: no such file.
    """
    if not config.is_robot:
        return _environment(config, clock), None
    robot = make_robot(config.target, config.prompt, make_device)
    stack.callback(robot.disconnect)
    robot.connect()
    return robot, robot


def _environment(config: RunConfig, clock: Clock) -> Environment:
    try:
        check_environment(config.target)
    except ValueError as error:
        raise ValueError(f"{error}, or a robot file ({', '.join(SUFFIXES)})") from error
    options: dict[str, Any] = {"with_images": needs_pictures(config.policy)}
    if config.target in WORKCELL_ENVIRONMENTS:
        if config.policy == "expert":
            raise ValueError(
                f"the expert of {config.target} acts tick by tick and plans no chunks, so no executor can run it; "
                f"cerebella eval {config.target} --policy expert plays it"
            )
        if (trained := _trained_robot(config)) is not None:
            options = {"with_images": bool(trained.views), "control_mode": trained.control_mode}
    return make_environment(config.target, clock_s=clock.now_s, **options)


def _trained_robot(config: RunConfig) -> Embodiment | None:
    """The robot that the policy was made for; None if it takes any (`hold`, `zero`), or does not say."""
    if config.policy in ("hold", "zero"):
        return None
    if config.is_remote:
        server = RemoteTransport(config.policy, token=config.token)
        try:
            return server.metadata.embodiment
        finally:
            server.close()
    from cerebella.policies.hub import fetch  # only here: a run with a server needs no hub

    return embodiment_in(fetch(config.policy, weights=False))
