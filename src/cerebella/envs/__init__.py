"""Environments: what a policy acts in. No torch here, not even indirectly."""
