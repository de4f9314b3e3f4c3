"""`Processor`: raw observations and samples to `Batch`, and the model's numbers back to absolute actions.

Encode and decode are one pair, so that training and running cannot disagree. One processor belongs to one policy and
travels with it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.batch import Batch
from cerebella.embodiment import Embodiment
from cerebella.processing.augmentation import Augmentation
from cerebella.processing.images import ImageConfig, fit, patchify
from cerebella.processing.motion import MotionProcessor
from cerebella.processing.prompt import IMAGE_TOKEN, robot_prompt
from cerebella.processing.statistics import Statistics
from cerebella.types import FloatArray, ImageArray, Observation, Sample


class Processor(MotionProcessor):
    """See the module.

    Args:
        embodiment: what the raw numbers mean. statistics: their mean and spread.
        tokenizer: the brain's. images: the vision tower's geometry.
        horizon: H. model_state_dim, model_action_dim: padded widths S and A.
        allow_missing_views: leave a camera that is not there out of the prompt, heading and picture, instead of refusing
            the row; at least one must be there. For data sets that lack some of an embodiment's views.

    Raises:
        ValueError: statistics of another shape or robot, or slots beyond the model's width.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        statistics: Statistics,
        tokenizer: Qwen2Tokenizer,
        images: ImageConfig,
        horizon: int,
        model_state_dim: int,
        model_action_dim: int,
        allow_missing_views: bool = False,
    ) -> None:
        super().__init__(embodiment, statistics, horizon, model_state_dim, model_action_dim)
        self.tokenizer, self.images, self.allow_missing_views = tokenizer, images, allow_missing_views
        self.image_token_id = _token_id(tokenizer, IMAGE_TOKEN)
        self.pad_token_id = _token_id(tokenizer, str(tokenizer.pad_token))
        self._token_ids = lru_cache(maxsize=4096)(self._tokenize)

    def __getstate__(self) -> dict[str, object]:
        """For worker processes: everything but the cache of tokenized prompts."""
        return {name: value for name, value in vars(self).items() if name != "_token_ids"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._token_ids = lru_cache(maxsize=4096)(self._tokenize)

    def encode_samples(
        self,
        samples: Sequence[Sample],
        augmentation: Augmentation | None = None,
        generator: np.random.Generator | None = None,
        as_bytes: bool = False,
    ) -> Batch:
        """Training windows to a batch with targets.

        Args:
            as_bytes: leave the pictures bytes until they are on a device, see `images.patchify`.
            augmentation: changes the images after they have been resized; needs a `generator`, which decides everything.

        Raises:
            ValueError: another robot's sample or horizon, or an augmentation without a generator.
        """
        if augmentation is not None and generator is None:
            raise ValueError("an augmentation needs a generator (numpy.random.Generator); got none")
        if not samples:
            raise ValueError("need at least one sample; got none")
        for sample in samples:
            self.embodiment.check_state(sample.state)
            self.embodiment.check_actions(sample.actions)
            if sample.robot_type != self.embodiment.name or sample.control_mode != self.embodiment.control_mode:
                raise ValueError(
                    f"a sample of {sample.robot_type}/{sample.control_mode} came to the processor of "
                    f"{self.embodiment.name}/{self.embodiment.control_mode}"
                )
            if len(sample.actions) != self.horizon:
                raise ValueError(f"samples must have {self.horizon} action rows; got {len(sample.actions)}")
        states = np.stack([sample.state for sample in samples])
        absolute = np.stack([sample.actions for sample in samples])
        is_valid = np.stack([sample.is_valid for sample in samples])
        targets = self.encode_targets(states, absolute, is_valid)
        images = [self._fitted(sample.images) for sample in samples]
        if augmentation is not None and generator is not None:
            images = [augmentation.apply(views, generator) for views in images]
        return self._batch(
            images=images,
            views=[self._views(sample.images) for sample in samples],
            prompts=[sample.prompt for sample in samples],
            as_bytes=as_bytes,
            prefix_length=torch.tensor([sample.num_committed for sample in samples], dtype=torch.int64),
            **targets._asdict(),
        )

    def encode(self, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]) -> Batch:
        """Observations with their committed actions to a batch without targets.

        Args:
            action_prefixes: one float32[p, action_dim] per observation, absolute, raw units; p may differ, 0 <= p < H.

        Raises:
            ValueError: wrong widths, a missing view, p >= H, a prefix that is not finite, or not one prefix for each.
        """
        motion = self.encode_motion(observations, action_prefixes)
        return self._batch(
            images=[self._fitted(observation.images) for observation in observations],
            views=[self._views(observation.images) for observation in observations],
            prompts=[observation.prompt for observation in observations],
            **motion._asdict(),
        )

    def _batch(
        self,
        images: Sequence[Sequence[ImageArray]],
        views: Sequence[tuple[str, ...]],
        prompts: Sequence[str],
        state: Tensor,
        as_bytes: bool = False,
        **actions: Tensor,
    ) -> Batch:
        """`images`: fitted, one list for each row of the batch; `views`: which they are."""
        flat = [image for row in images for image in row]
        pixel_values, grid = patchify(flat, self.images, as_bytes) if flat else (None, None)
        merge = self.images.factor**2
        rows = [
            self._token_ids(prompt, names, tuple(image.shape[0] * image.shape[1] // merge for image in row))
            for prompt, names, row in zip(prompts, views, images, strict=True)
        ]
        longest = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), longest), self.pad_token_id, dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        for i, row in enumerate(rows):
            input_ids[i, : len(row)] = row
            attention_mask[i, : len(row)] = 1
        return Batch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            mm_token_type_ids=((input_ids == self.image_token_id) & (attention_mask == 1)).long(),
            pixel_values=pixel_values,
            image_grid_thw=grid,
            state=state,
            **actions,
        )

    def _fitted(self, images: Mapping[str, ImageArray]) -> list[ImageArray]:
        """The views of a row, resized to what the vision tower takes."""
        return [fit(images[view], self.images) for view in self._views(images)]

    def _views(self, images: Mapping[str, ImageArray]) -> tuple[str, ...]:
        """The embodiment's views, in its order; without those that are missing where that is allowed."""
        wanted = self.embodiment.views
        missing = [view for view in wanted if view not in images]
        if missing and not (self.allow_missing_views and len(missing) < len(wanted)):
            needs = "at least one of" if self.allow_missing_views else "the views"
            raise ValueError(f"{self.embodiment.name} needs {needs} {', '.join(wanted)}; missing: {missing[0]!r}")
        return tuple(view for view in wanted if view in images)

    def _tokenize(self, prompt: str, views: tuple[str, ...], tokens_per_image: tuple[int, ...]) -> Tensor:
        pieces = robot_prompt(views, prompt).split(IMAGE_TOKEN)
        counts = (*tokens_per_image, 0)
        if len(pieces) != len(counts):
            raise ValueError(f"the instruction must not contain {IMAGE_TOKEN!r}; got {prompt!r}")
        text = "".join(piece + IMAGE_TOKEN * count for piece, count in zip(pieces, counts, strict=True))
        return torch.tensor(self.tokenizer(text)["input_ids"], dtype=torch.int64)


def _token_id(tokenizer: Qwen2Tokenizer, token: str) -> int:
    """Id of one token of the vocabulary."""
    index = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(index, int):
        raise ValueError(f"the tokenizer has no token {token!r}")
    return index
