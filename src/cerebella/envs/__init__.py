"""Environments: what a policy acts in. No torch here, not even indirectly.

Importing this package registers the Gymnasium names (`cerebella/Conveyor-v0`, ...).
"""

from cerebella.envs.dynamic.gym import register_tasks
from cerebella.envs.registry import ENVIRONMENTS, make_environment

__all__ = ["ENVIRONMENTS", "make_environment"]

register_tasks()
