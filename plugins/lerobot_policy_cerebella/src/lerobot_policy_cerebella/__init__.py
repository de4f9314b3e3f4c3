"""Cerebella policies as LeRobot policies of the type `cerebella`. LeRobot imports this package by itself."""

try:
    import lerobot  # noqa: F401

    import cerebella  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"lerobot_policy_cerebella needs the package {error.name}: pip install lerobot, pip install --no-deps cerebella"
    ) from error

from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig
from lerobot_policy_cerebella.modeling_cerebella import CerebellaPolicy
from lerobot_policy_cerebella.processor_cerebella import make_cerebella_pre_post_processors

__all__ = ["CerebellaConfig", "CerebellaPolicy", "make_cerebella_pre_post_processors"]
