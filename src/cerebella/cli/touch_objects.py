"""Objects as a person names them on the command line."""

from collections.abc import Sequence

from cerebella.touch.objects import SEEN, UNSEEN


def object_names(words: Sequence[str]) -> tuple[str, ...]:
    """Names of objects, `seen` and `unseen` spelt out."""
    groups = {"seen": SEEN, "unseen": UNSEEN}
    return tuple(name for word in words for name in ([s.name for s in groups[word]] if word in groups else [word]))
