"""LeRobot's own factory, from the `robot` part of a robot file. The only place that imports LeRobot."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

_NOT_THERE = (
    "LeRobot cannot be imported: {error}. It needs its own PyTorch: install it beside Cerebella with "
    "`pip install 'lerobot[feetech]'` (or the extra of your motors), in an environment that both can live in"
)
_LIMP = "disable_torque_on_disconnect"


def make_lerobot_robot(fields: Mapping[str, Any], source: str) -> Any:
    """A robot from the fields of its LeRobot configuration (`type`, `port`, `id`, `cameras`, ...); not connected yet.

    Raises:
        ValueError: LeRobot is not there, it does not know the type or a field, or nobody said whether the motors go
            limp at the end.
    """
    try:
        robots = importlib.import_module("lerobot.robots")
        cameras = importlib.import_module("lerobot.cameras")
        draccus = importlib.import_module("draccus")
    except ModuleNotFoundError as error:
        raise ValueError(f"{source}: {_NOT_THERE.format(error=error)}") from error
    unusable = _register(robots) | _register(cameras)
    plugins = importlib.import_module("lerobot.utils.import_utils")
    plugins.register_third_party_plugins()
    known = robots.RobotConfig.get_known_choices()
    kind = fields.get("type")
    if kind not in known:
        also = "".join(f"; {name} cannot be imported ({reason})" for name, reason in unusable.items())
        raise ValueError(f"{source}: LeRobot knows no robot {kind!r}; it knows: {', '.join(sorted(known))}{also}")
    names = {field.name for field in dataclasses.fields(known[kind])}
    if _LIMP in names and _LIMP not in fields:
        raise ValueError(
            f"{source}: robot needs {_LIMP!r}: true lets the arm fall when the run ends, false leaves the motors on. "
            "There is no default"
        )
    try:
        config = draccus.decode(robots.RobotConfig, dict(fields))
        return robots.make_robot_from_config(config)
    except ModuleNotFoundError as error:
        raise ValueError(f"{source}: the robot {kind!r} needs the package {error.name!r}") from error
    except draccus.utils.DecodingError as error:
        raise ValueError(f"{source}: robot: {' '.join(str(error).split())}") from error


def _register(package: Any) -> dict[str, str]:
    """Import every subpackage, which registers its configurations; the ones that cannot be, and why."""
    unusable: dict[str, str] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            try:
                importlib.import_module(f"{package.__name__}.{module.name}")
            except ImportError as error:  # needs a driver that is not installed; said if its type is asked for
                unusable[module.name] = str(error)
    return unusable
