"""Policies: processor plus model, and what can be loaded by name.

Names are looked up when they are used: `HoldPolicy` needs no torch, and a server that only holds still starts at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cerebella.policies.directory import load_policy
    from cerebella.policies.hold_policy import HoldPolicy
    from cerebella.policies.vla_policy import VLAPolicy

__all__ = ["HoldPolicy", "VLAPolicy", "load_policy"]

_MODULES = {"HoldPolicy": "hold_policy", "VLAPolicy": "vla_policy", "load_policy": "directory"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
