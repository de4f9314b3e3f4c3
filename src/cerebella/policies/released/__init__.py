"""Released Xiaomi-Robotics-0 checkpoints: read, run and written unchanged, with the interface of their own classes."""

from cerebella.policies.released.directory import import_trainer, read_released, save_released
from cerebella.policies.released.modeling import CerebellaForActionGeneration, MiBoTForActionGeneration
from cerebella.policies.released.processing import CerebellaProcessor, MiBotProcessor

__all__ = [
    "CerebellaForActionGeneration",
    "CerebellaProcessor",
    "MiBoTForActionGeneration",
    "MiBotProcessor",
    "import_trainer",
    "read_released",
    "save_released",
]
