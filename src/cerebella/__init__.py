"""Cerebella: the open, complete stack for real-time vision-language-action robots.

Importing it loads neither torch nor Transformers; as soon as these are imported, `transformers.AutoModel`, `AutoConfig` and
`AutoProcessor` read released Xiaomi-Robotics-0 checkpoints and policy directories of our own.
"""

from cerebella.auto_classes import install as _install

__version__ = "0.1.0"

_install()
