"""What `AutoProcessor.from_pretrained` returns: prompt and images to model inputs, and a robot type's actions back.

Resizing, pixel values and tokens are those of the installed Transformers (its PIL image processor, which needs no
torchvision); the methods about actions are those of the released processor.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.policies.released.source import HUB_OPTIONS, local_directory
from cerebella.processing.actions import to_slots
from cerebella.processing.hub_processor import Qwen3VLProcessor, make_hub_processor
from cerebella.processing.images import ImageConfig
from cerebella.processing.statistics import ACTIVE_STD, Statistics

PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
VIDEO_FILE = "video_preprocessor_config.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
ACTION_CONFIG = "action_config"


class ActionProcessor(Qwen3VLProcessor):
    """See the module.

    Args:
        action_config: per robot type `mean` and `std`, [H, A] over the model's slots.

    Raises:
        ValueError: statistics that are not two arrays of numbers of one shape.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        action_config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)
        self.action_config = check_action_config(action_config or {})

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - no video, no audio
        self, images: Any = None, text: Any = None, **kwargs: Any
    ) -> Any:
        """Prompts and images to `input_ids`, `attention_mask`, `pixel_values`, `image_grid_thw`, `mm_token_type_ids`.

        Args:
            images: PIL images (or arrays) in the order of their places in the prompts. text: one prompt or several.
            kwargs: as Transformers takes them; `videos` must be None.

        Raises:
            ValueError: not one image for each place, or a video.
        """
        if kwargs.pop("videos", None) is not None:
            raise ValueError(f"{type(self).__name__} takes images only; got videos")
        texts = [text] if isinstance(text, str) else list(text or [])
        places = [prompt.count(self.image_token) for prompt in texts]
        counts = _counts(images, len(texts))
        if sum(places) != sum(counts) or (len(counts) == len(places) and counts != places):
            raise ValueError(
                f"the prompts have {places} places for images ({self.image_token}); got {counts} images"
                if len(texts) > 1
                else f"the prompt has {sum(places)} places for images ({self.image_token}); got {sum(counts)} images"
            )
        return super().__call__(images=images, text=text, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """What `processor_config.json` holds; the statistics have a file of their own."""
        return {key: value for key, value in super().to_dict().items() if key != ACTION_CONFIG}

    def list_robot_types(self) -> list[str]:
        """Names of the robot types with statistics."""
        return list(self.action_config)

    def get_action_mask(self, robot_type: str, batch_size: int = 1) -> Tensor:
        """float32[batch_size, H, A], 1 where a row and slot of this robot type spreads more than 1e-5.

        Raises:
            ValueError: an unknown robot type (lists the known ones).
        """
        _, std = self._statistics(robot_type)
        return (std > ACTIVE_STD).float()[None].repeat(batch_size, 1, 1)

    def decode_action(self, actions: Tensor, robot_type: str) -> Tensor:
        """Model units to what this robot type's statistics were computed on: actions * std + mean.

        For a released checkpoint these are the commands of its client. For a policy directory of ours they are
        raw units after the relative transform: add the measured pose where the embodiment is relative.

        Args:
            actions: float[B, H, A].

        Returns:
            float32[B, H, A] on the device of `actions`.

        Raises:
            ValueError: an unknown robot type, or another shape than its statistics have.
        """
        mean, std = self._statistics(robot_type)
        if actions.shape[-2:] != mean.shape:
            raise ValueError(
                f"actions of {robot_type!r} must be float[B, {mean.shape[0]}, {mean.shape[1]}]; got {list(actions.shape)}"
            )
        return actions.float() * std.to(actions.device) + mean.to(actions.device)

    def _statistics(self, robot_type: str) -> tuple[Tensor, Tensor]:
        entry = robot_entry(self.action_config, robot_type)
        return torch.tensor(entry["mean"], dtype=torch.float32), torch.tensor(entry["std"], dtype=torch.float32)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - reads the released file set
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        trust_remote_code: bool | None = None,
        use_fast: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read a checkpoint directory or hub repository.

        Args:
            trust_remote_code, use_fast: without effect; no code of the repository runs, and there is one image processor.
            kwargs: revision, token, cache_dir, local_files_only, as `hub.fetch` takes them.

        Raises:
            FileNotFoundError: a file is missing (names it). ValueError: one is damaged, or an unknown option.
        """
        kwargs.pop("_from_auto", None)
        if unknown := sorted(name for name in kwargs if name not in HUB_OPTIONS):
            raise ValueError(
                f"{cls.__name__}.from_pretrained does not support {', '.join(unknown)}; supported: {', '.join(HUB_OPTIONS)}"
            )
        return cls._read(local_directory(pretrained_model_name_or_path, kwargs))

    @classmethod
    def _read(cls, directory: Path) -> Self:
        raise NotImplementedError


class MiBotProcessor(ActionProcessor):
    """The released class: statistics are the entry `action_config` of `preprocessor_config.json`."""

    @classmethod
    def _read(cls, directory: Path) -> Self:
        fields = read_preprocessor(directory)
        tokenizer = _tokenizer(directory)
        return cls(
            image_processor=make_hub_processor(tokenizer, ImageConfig.from_preprocessor(fields)).image_processor,
            tokenizer=tokenizer,
            chat_template=_chat_template(directory) or tokenizer.chat_template,
            action_config=fields[ACTION_CONFIG],
        )

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - writes the released file set
        self, save_directory: str | Path
    ) -> list[str]:
        """Write the released processor files: image processor with `action_config`, tokenizer, chat template."""
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(directory)
        fields = self.image_processor.to_dict() | {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": RELEASED_NAME,
            ACTION_CONFIG: self.action_config,
        }
        video = {key: fields[key] for key in _VIDEO_FIELDS if key in fields}
        files = {
            PREPROCESSOR_FILE: fields,
            PROCESSOR_FILE: {"processor_class": RELEASED_NAME},
            VIDEO_FILE: video | {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": RELEASED_NAME},
        }
        for name, content in files.items():
            (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if isinstance(self.chat_template, str):
            (directory / CHAT_TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")
        return [str(directory / name) for name in files]


class CerebellaProcessor(ActionProcessor):
    """A policy directory of ours: statistics are those of `statistics.json`, in the slots of `embodiment.json`."""

    @classmethod
    def _read(cls, directory: Path) -> Self:
        embodiment = Embodiment.load(directory / "embodiment.json")
        statistics = Statistics.load(directory / "statistics.json", embodiment.name, embodiment.control_mode)
        config = read_json_object(directory / "config.json")
        try:
            action_dim, images = config["model"]["action_dim"], ImageConfig(**config["images"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{directory / 'config.json'} is incomplete: {error}") from error
        tokenizer = _tokenizer(directory)
        return cls(
            image_processor=make_hub_processor(tokenizer, images).image_processor,
            tokenizer=tokenizer,
            action_config={embodiment.name: released_statistics(statistics, embodiment, action_dim)},
        )


RELEASED_NAME = MiBotProcessor.__name__
_VIDEO_FIELDS = ("patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std", "size")


def released_statistics(statistics: Statistics, embodiment: Embodiment, model_action_dim: int) -> dict[str, Any]:
    """An entry of `action_config`: `mean` and `std`, [H, A] over the model's slots, 0 in unused ones.

    What our statistics add to each divisor is part of the std, because a released decoder adds nothing.
    """
    std = np.where(statistics.is_active, statistics.action_std + statistics.epsilon, statistics.action_std)
    arrays = {"mean": statistics.action_mean, "std": std}
    return {
        name: to_slots(embodiment, array, model_action_dim).astype(float).tolist() for name, array in arrays.items()
    }


def read_preprocessor(directory: Path) -> dict[str, Any]:
    """The fields of `preprocessor_config.json`, `action_config` checked.

    Raises:
        FileNotFoundError: there is none. ValueError: no or damaged statistics; names the file.
    """
    path = directory / PREPROCESSOR_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{directory} is not a released checkpoint: {PREPROCESSOR_FILE} is missing")
    fields = read_json_object(path)
    if not isinstance(fields.get(ACTION_CONFIG), Mapping) or not fields[ACTION_CONFIG]:
        raise ValueError(f"{path}: {ACTION_CONFIG} (mean and std per robot type) is missing or empty")
    try:
        return {**fields, ACTION_CONFIG: check_action_config(fields[ACTION_CONFIG])}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_action_config(action_config: Mapping[str, Any]) -> dict[str, Any]:
    """The same, after a look at every entry. Raises ValueError unless mean and std are finite and of one shape [H, A]."""
    for robot_type, entry in action_config.items():
        if not isinstance(entry, Mapping) or "mean" not in entry or "std" not in entry:
            raise ValueError(f"{ACTION_CONFIG}[{robot_type!r}] must have a mean and a std")
        try:
            mean, std = (np.asarray(entry[name], dtype=np.float64) for name in ("mean", "std"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{ACTION_CONFIG}[{robot_type!r}]: mean and std must be arrays of numbers") from error
        if mean.ndim != 2 or mean.shape != std.shape:
            raise ValueError(
                f"{ACTION_CONFIG}[{robot_type!r}]: mean and std must be of one shape [H, A]; got "
                f"{list(mean.shape)} and {list(std.shape)}"
            )
        for name, array in (("mean", mean), ("std", std)):
            if (places := np.argwhere(~np.isfinite(array))).size:
                row, slot = places[0]
                raise ValueError(
                    f"{ACTION_CONFIG}[{robot_type!r}]: {name} must be finite; row {row}, slot {slot} is {array[row, slot]}"
                )
    return dict(action_config)


def robot_entry(action_config: Mapping[str, Any], robot_type: str) -> Mapping[str, Any]:
    """The statistics of one robot type. Raises ValueError for an unknown one (lists the known ones)."""
    if robot_type not in action_config:
        raise ValueError(f"unknown robot type {robot_type!r}; known robot types: {', '.join(action_config) or 'none'}")
    return action_config[robot_type]


def _tokenizer(directory: Path) -> Any:
    """Raises FileNotFoundError where a file is missing: Transformers would make an empty tokenizer instead."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory}: {name} is missing")
    return AutoTokenizer.from_pretrained(directory)


def _chat_template(directory: Path) -> str | None:
    """Of `chat_template.jinja`, else of the older `chat_template.json`; None leaves the tokenizer's own."""
    if (directory / CHAT_TEMPLATE_FILE).is_file():
        return (directory / CHAT_TEMPLATE_FILE).read_text(encoding="utf-8")
    if (directory / "chat_template.json").is_file():
        return read_json_object(directory / "chat_template.json").get("chat_template")
    return None


def _counts(images: Any, num_prompts: int) -> list[int]:
    """Images per prompt where they come in one list for each, else their number as a whole.

    Raises:
        ValueError: something that is no image.
    """
    if images is None:
        return [0] * num_prompts
    rows = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    if rows and all(isinstance(row, Sequence) and not isinstance(row, str) for row in rows):
        return [_counts(row, 1)[0] if row else 0 for row in rows]
    for image in rows:
        if not isinstance(image, Image.Image | np.ndarray | Tensor) or getattr(image, "ndim", 3) != 3:
            raise ValueError(
                "images must be PIL images or arrays [h, w, 3], in a list (of lists, one for each prompt); got a "
                f"{type(image).__name__}{list(getattr(image, 'shape', []))}"
            )
    return [len(rows)]
