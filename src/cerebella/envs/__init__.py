"""Environments: what a policy acts in. No torch here, not even indirectly.

Importing this package registers the Gymnasium names (`cerebella/Conveyor-v0`, ...). It does not import MuJoCo.
"""

from cerebella.envs.dynamic.gym import register_tasks as register_dynamic_tasks
from cerebella.envs.registry import ENVIRONMENTS, WORKCELL_ENVIRONMENTS, make_environment
from cerebella.envs.workcell.tasks import register_tasks as register_workcell_tasks

__all__ = ["ENVIRONMENTS", "WORKCELL_ENVIRONMENTS", "make_environment"]

register_dynamic_tasks()
register_workcell_tasks()
