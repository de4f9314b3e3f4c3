"""Policies: processor plus model, and what can be loaded by name."""

from cerebella.policies.directory import load_policy
from cerebella.policies.hold_policy import HoldPolicy
from cerebella.policies.vla_policy import VLAPolicy

__all__ = ["HoldPolicy", "VLAPolicy", "load_policy"]
