"""The fast engine: a static-shape forward beside the readable model, proven equal to it."""

from cerebella.policies.engine.engine import Compile, Engine, EngineConfig
from cerebella.policies.engine.session import EngineContext

__all__ = ["Compile", "Engine", "EngineConfig", "EngineContext"]
