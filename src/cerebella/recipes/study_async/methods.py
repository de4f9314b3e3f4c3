"""The rows of the study's tables: a way to run chunks together with a way to train for it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One row.

    Args:
        name: as in tables and file names.
        mode: of the executor, see `runtime.executor_config.MODES`.
        variant: of the training, see `recipes.state_training.VARIANTS`. Methods of one variant share their policies.
        title: what it is, in a few words.
        margin: ticks that the promised delay lies above what was measured.
    """

    name: str
    mode: str
    variant: str
    title: str
    margin: int = 1


_ALL = (
    Method("sync", "sync", "sync", "execute, stop, think"),
    Method("naive", "naive", "sync", "the new chunk takes over where it belongs in time, unconditioned"),
    Method("ensemble", "ensemble", "sync", "weighted mean of all chunks that cover the tick"),
    Method("guided", "guided", "sync", "real-time chunking at inference time, with the Jacobian"),
    Method("guided_identity", "guided_identity", "sync", "the same with the Jacobian taken as the identity"),
    Method("best_of_n", "best_of_n", "sync", "of several chunks the one nearest to the running plan"),
    Method("clean", "prefix", "clean", "trained on clean prefixes, nothing else"),
    Method("offset", "prefix", "offset", "clean + position offset of the noisy rows"),
    Method("band", "prefix", "band", "clean + band mask"),
    Method("lambda", "prefix", "lambda", "clean + lambda mask"),
    Method("hide", "prefix", "hide", "clean + hidden prefix columns"),
    Method("reweight", "prefix", "reweight", "clean + error re-weighting"),
    Method("all", "prefix", "all", "all tricks of the paper together"),
    Method("released", "prefix", "released", "the settings of the released post-training code"),
    Method("stale", "prefix", "stale", "clean, with prefixes that an older plan promised among the data"),
    Method("all_stale", "prefix", "all_stale", "all tricks, with such prefixes among the data"),
    Method("roll_forward", "prefix", "roll_forward", "sees the state rolled forward by the prefix"),
    Method("clean_exact", "prefix", "clean", "clean, promising the measured delay and no tick more", margin=0),
    Method("stale_exact", "prefix", "stale", "stale, promising the measured delay and no tick more", margin=0),
    Method("band_stale_exact", "prefix", "band_stale", "band mask and such prefixes, with the same promise", margin=0),
)
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}
"""By name, in the order of the tables."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "modes": ("sync", "naive", "ensemble", "guided", "guided_identity", "best_of_n", "clean", "all"),
    "variants": ("naive", "clean", "offset", "band", "lambda", "hide", "reweight", "all"),
    "data": ("naive", "clean", "stale", "all", "all_stale", "released", "roll_forward"),
    "margin": ("naive", "clean", "clean_exact", "stale", "stale_exact", "band_stale_exact"),
}
"""What is drawn in one picture."""

TRICKS = (
    "offset",
    "band",
    "lambda",
    "hide",
    "reweight",
    "all",
    "released",
    "stale",
    "all_stale",
    "roll_forward",
    "clean_exact",
    "stale_exact",
    "band_stale_exact",
)
"""Methods that are compared with `clean`, on the same episodes."""

VARIANT_ORDER = ("sync", "clean", "all", "band", "lambda", "stale", "all_stale", "offset", "hide", "reweight")
"""The most informative policies first; other variants follow in the order of the table."""


def check_methods(names: tuple[str, ...]) -> None:
    """Raise a ValueError unless all names are known and different."""
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}; known methods: {', '.join(METHODS)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"methods must be one or more different names; got {names}")


def variants_of(names: tuple[str, ...]) -> list[str]:
    """The variants that these methods need, the most informative first."""
    needed = dict.fromkeys(METHODS[name].variant for name in names)
    first = [variant for variant in VARIANT_ORDER if variant in needed]
    return [*first, *(variant for variant in needed if variant not in first)]
