"""`Context`: what the brain encoded once, and the cerebellum reads five times."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Context:
    """The K/V cache of the brain layers that the cerebellum is paired with, first pair first.

    Args:
        keys: per layer float[B, num_kv_heads, L, head_dim], already normalised and rotated by the brain.
        values: per layer float[B, num_kv_heads, L, head_dim].
        is_valid: bool[B, L], false on padding (whose keys and values are garbage).
        last_position: int64[B], the largest rotary position of each sample; smaller than L where there are images.
    """

    keys: list[Tensor]
    values: list[Tensor]
    is_valid: Tensor
    last_position: Tensor

    def __len__(self) -> int:
        """Number of samples, B."""
        return len(self.is_valid)

    def repeat_interleave(self, num_repeats: int) -> "Context":
        """Every sample `num_repeats` times in a row; gradients of the copies add up."""
        return Context(
            keys=[key.repeat_interleave(num_repeats, dim=0) for key in self.keys],
            values=[value.repeat_interleave(num_repeats, dim=0) for value in self.values],
            is_valid=self.is_valid.repeat_interleave(num_repeats, dim=0),
            last_position=self.last_position.repeat_interleave(num_repeats, dim=0),
        )

    def take(self, chosen: Tensor) -> "Context":
        """The samples where bool[B] `chosen` is true (or at its int64 indices), in order."""
        return Context(
            keys=[key[chosen] for key in self.keys],
            values=[value[chosen] for value in self.values],
            is_valid=self.is_valid[chosen],
            last_position=self.last_position[chosen],
        )

    def detach(self) -> "Context":
        """The same numbers without a way back into the brain."""
        return Context(
            keys=[key.detach() for key in self.keys],
            values=[value.detach() for value in self.values],
            is_valid=self.is_valid,
            last_position=self.last_position,
        )
