"""What one inference is asked: the geometry of a request, and random tensors of that shape."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.config import ModelConfig

NUM_TEXT_TOKENS = 70
NUM_PREFIX_ROWS = 4
_SPELLING = re.compile(r"(\d+)x(\d+)(?:x(\d+))?(?:\+(\d+))?")


@dataclass(frozen=True)
class Geometry:
    """Images of one size and the text around them.

    Args:
        num_images: one per view. width, height: pixels. num_text_tokens: everything that is not an image token, the
            vision start and end marks included.

    Raises:
        ValueError: a count below 1, or less text than two marks per image and one more token.
    """

    num_images: int
    width: int
    height: int
    num_text_tokens: int = NUM_TEXT_TOKENS

    def __post_init__(self) -> None:
        if min(self.num_images, self.width, self.height) < 1:
            raise ValueError(f"a geometry needs at least one image of at least one pixel; got {self}")
        if self.num_text_tokens <= 2 * self.num_images:
            raise ValueError(
                f"{self.num_images} images need more than {2 * self.num_images} text tokens (their start and end "
                f"marks); got {self.num_text_tokens}"
            )

    @classmethod
    def parse(cls, text: str) -> "Geometry":
        """Read VIEWSxSIDE or VIEWSxWIDTHxHEIGHT, with +TOKENS of text (70 unless given): 2x224, 3x320x256+85.

        Raises:
            ValueError: another spelling.
        """
        found = _SPELLING.fullmatch(text)
        if found is None:
            raise ValueError(f"a geometry is spelled VIEWSxSIDE or VIEWSxWIDTHxHEIGHT[+TEXT TOKENS]; got {text!r}")
        views, width, height, tokens = found.groups()
        return cls(int(views), int(width), int(height or width), int(tokens or NUM_TEXT_TOKENS))

    def __str__(self) -> str:
        size = f"{self.width}" if self.width == self.height else f"{self.width}x{self.height}"
        text = "" if self.num_text_tokens == NUM_TEXT_TOKENS else f"+{self.num_text_tokens}"
        return f"{self.num_images}x{size}{text}"

    def grid(self, config: ModelConfig) -> tuple[int, int]:
        """Patches of one image, (rows, columns).

        Raises:
            ValueError: a side is not a multiple of the model's image token.
        """
        vision = config.brain["vision_config"]
        factor = vision["patch_size"] * vision["spatial_merge_size"]
        if self.width % factor or self.height % factor:
            raise ValueError(f"image sides must be multiples of {factor} px for {config.name!r}; got {self}")
        return self.height // vision["patch_size"], self.width // vision["patch_size"]

    def num_patches(self, config: ModelConfig) -> int:
        """Patches of one image."""
        rows, columns = self.grid(config)
        return rows * columns

    def num_image_tokens(self, config: ModelConfig) -> int:
        """Language tokens of one image."""
        return self.num_patches(config) // config.brain["vision_config"]["spatial_merge_size"] ** 2

    def num_tokens(self, config: ModelConfig) -> int:
        """L, the length of the context."""
        return self.num_images * self.num_image_tokens(config) + self.num_text_tokens


@dataclass(frozen=True, eq=False)
class Request:
    """Everything that `encode` and `sample` take, all of it of one type on one device; random, never zero.

    Args:
        batch: images and text; its state, action mask and prefix are those of this request.
        noise: float[B, H, A].
    """

    geometry: Geometry
    batch: Batch
    noise: Tensor


def make_request(
    config: ModelConfig,
    geometry: Geometry,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Request:
    """Random pixels, random words, random state, and a prefix of `NUM_PREFIX_ROWS` rows (fewer in a short chunk)."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = geometry.grid(config)
    brain, num_images = config.brain, geometry.num_images * batch_size
    vision = brain["vision_config"]
    patch_width = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    ids = torch.stack([_token_ids(config, geometry, generator) for _ in range(batch_size)])
    prefix_rows = min(NUM_PREFIX_ROWS, config.horizon - 1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    chunk = (batch_size, config.horizon, config.action_dim)
    batch = Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == brain["image_token_id"]).long(),
        pixel_values=random(num_images * rows * columns, patch_width).float(),
        image_grid_thw=torch.tensor([[1, rows, columns]] * num_images),
        state=random(batch_size, 1, config.state_dim),
        action_mask=torch.ones(chunk, dtype=dtype),
        action_prefix=random(*chunk),
        prefix_length=torch.full((batch_size,), prefix_rows, dtype=torch.int64),
    )
    return Request(geometry, batch.to(device), random(*chunk).to(device))


def _token_ids(config: ModelConfig, geometry: Geometry, generator: torch.Generator) -> Tensor:
    """int64[L]: a few words, every image between its marks, the rest of the words."""
    brain = config.brain
    num_words = geometry.num_text_tokens - 2 * geometry.num_images
    first_special = min(brain[name] for name in ("vision_start_token_id", "vision_end_token_id", "image_token_id"))
    words = torch.randint(0, first_special, (num_words,), generator=generator).tolist()
    pads = [brain["image_token_id"]] * geometry.num_image_tokens(config)
    image = [brain["vision_start_token_id"], *pads, brain["vision_end_token_id"]]
    head = num_words // 4
    return torch.tensor([*words[:head], *image * geometry.num_images, *words[head:]])
