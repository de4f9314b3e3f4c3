"""After `import cerebella`, Transformers' auto classes know our checkpoints and the released ones.

Importing Transformers' auto modules loads torch, and importing cerebella must not. So a finder waits for these modules and
registers our classes right after one has been executed. What it registers is light (stand-ins that import the real class
when a checkpoint is loaded), because at that moment other modules of Transformers may be half imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto"
_CLASSES = {
    "MiBoTConfig": ("cerebella.policies.released.modeling", "MiBoTForActionGeneration"),
    "CerebellaConfig": ("cerebella.policies.released.modeling", "CerebellaForActionGeneration"),
    "MiBotProcessor": ("cerebella.policies.released.processing", "MiBotProcessor"),
    "MiBoTProcessor": ("cerebella.policies.released.processing", "MiBotProcessor"),
    "CerebellaProcessor": ("cerebella.policies.released.processing", "CerebellaProcessor"),
}
"""Config class, or the name of a processor in a checkpoint's files (both spellings are met) -> real class."""


def _stand_in(name: str) -> type:
    """A class of this name with the two constructors that the auto classes call; they are those of the real class."""
    module, real = _CLASSES[name]

    def forward(constructor: str) -> staticmethod:
        def construct(*args: Any, **kwargs: Any) -> Any:
            return getattr(getattr(importlib.import_module(module), real), constructor)(*args, **kwargs)

        return staticmethod(construct)

    return type(name, (), {constructor: forward(constructor) for constructor in ("from_pretrained", "_from_config")})


def _configs() -> list[type]:
    module = importlib.import_module("cerebella.models.hub_config")
    return [module.MiBoTConfig, module.CerebellaConfig]


def _register_configs(auto: ModuleType) -> None:
    for config in _configs():
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    for config in _configs():
        auto.AutoModel.register(config, _stand_in(config.__name__), exist_ok=True)


def _register_processors(auto: ModuleType) -> None:
    mibot, cerebella = _configs()
    released = _stand_in("MiBotProcessor")
    for key, processor in ((mibot, released), (cerebella, _stand_in("CerebellaProcessor"))):
        auto.AutoProcessor.register(key, processor, exist_ok=True)
    # A processor is found by name; the mapping wants a key of its own for each, whatever it is.
    auto.AutoProcessor.register(released, _stand_in("MiBoTProcessor"), exist_ok=True)


_STEPS: dict[str, Callable[[ModuleType], None]] = {
    f"{_AUTO}.configuration_auto": _register_configs,
    f"{_AUTO}.modeling_auto": _register_models,
    f"{_AUTO}.processing_auto": _register_processors,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the three auto modules as ever, and has their loader register us afterwards."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _STEPS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _STEPS[module.__name__](module)


def install() -> None:
    """Register with the auto modules that are loaded already, and wait for the others. Twice is once."""
    for name, register in _STEPS.items():
        if name in sys.modules:
            register(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
