"""`ModelConfig`: the geometry of a brain and its cerebellum, the attention rule, and five named sizes (`preset`).

The config travels with a checkpoint as JSON. Whatever changes the numbers a network computes (mask variant, window,
position offset, flow steps) is a field here, so that training and inference cannot disagree about it.

| preset | parameters | image token | attention rule |
|---|---|---|---|
| micro | 3.2 M | 16 x 16 px | band, w = 4, +0 |
| nano | 5.4 M | 16 x 16 px | band, w = 4, +0 |
| tiny | 15.6 M | 16 x 16 px | band, w = 4, +0 |
| small | about 150 M | 32 x 32 px | band, w = 4, +0 |
| xr0 | 4 716 274 176 | 32 x 32 px | causal, +0 (the released inference code) |

In the four sizes of our own the brain has as many K/V heads as the cerebellum has heads, and the last four ids of the
vocabulary are vision start, vision end, image pad and video pad.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

MaskVariant = Literal["causal", "band", "lambda", "full"]
MASK_VARIANTS: tuple[str, ...] = get_args(MaskVariant)
MASK_DEFAULTS: dict[str, tuple[int, int]] = {"causal": (4, 0), "band": (4, 10), "lambda": (4, 10), "full": (4, 0)}
"""Variant -> (window in rows, position offset of the noisy rows); `causal` and `full` do not read their window. `lambda` is the
paper's rule, `band` that of the released post-training code."""
OWN_RULE: tuple[MaskVariant, int, int] = ("band", 4, 0)
"""Variant, window and offset of a cerebellum that follows no published one: what the study of asynchronous execution came to
(`docs/study-async.md`)."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a `VLA`.

    Args:
        name: preset or checkpoint family, for people.
        brain: fields of `transformers.Qwen3VLConfig` (`text_config`, `vision_config`, special token ids).
        hidden_size: width of the cerebellum; a multiple of `head_dim`.
        num_layers: cerebellum layers; they read the last `num_layers` layers of the brain, in order.
        head_dim, num_kv_heads: of the brain's K/V. The cerebellum has hidden_size / head_dim heads, a multiple of
            `num_kv_heads`; each K/V head of the context serves that many heads.
        mask_variant: who may look at whom among the action rows (see `attention_mask`).
        mask_window: w, in rows.
        position_offset: added to the position of every noisy row, also without a prefix.
        state_dim, action_dim: padded widths of the model's vectors.
        horizon: action rows, H.
        num_flow_steps: Euler steps from noise to actions.

    Raises:
        ValueError: a field is out of range or does not fit the brain.
    """

    name: str
    brain: Mapping[str, Any]
    hidden_size: int
    num_layers: int
    head_dim: int
    num_kv_heads: int
    mask_variant: MaskVariant
    mask_window: int
    position_offset: int
    state_dim: int = 32
    action_dim: int = 32
    horizon: int = 16
    num_flow_steps: int = 5

    def __post_init__(self) -> None:
        if self.mask_variant not in MASK_VARIANTS:
            raise ValueError(f"mask_variant is {self.mask_variant!r}; known variants: {', '.join(MASK_VARIANTS)}")
        sizes = ("hidden_size", "num_layers", "head_dim", "num_kv_heads", "mask_window")
        for name in (*sizes, "state_dim", "action_dim", "horizon", "num_flow_steps"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"{name} must be an integer of 1 or more; got {value!r}")
        if not isinstance(self.position_offset, int) or self.position_offset < 0:
            raise ValueError(f"position_offset must be an integer of 0 or more; got {self.position_offset!r}")
        for part in ("text_config", "vision_config"):
            if not isinstance(self.brain, Mapping) or not isinstance(self.brain.get(part), Mapping):
                raise ValueError(f"brain must hold the fields of a Qwen3VLConfig, among them {part}")
        if self.hidden_size % self.head_dim or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be head_dim {self.head_dim} times a multiple of "
                f"num_kv_heads {self.num_kv_heads}"
            )
        text = self.brain["text_config"]
        if "rope_theta" not in text and "rope_theta" not in text.get("rope_parameters", {}):
            raise ValueError("the brain's text_config must say rope_theta, itself or in rope_parameters")
        for ours, theirs in (("head_dim", "head_dim"), ("num_kv_heads", "num_key_value_heads")):
            if getattr(self, ours) != text[theirs]:
                raise ValueError(f"{ours} is {getattr(self, ours)}, but the brain's {theirs} is {text[theirs]}")
        if self.num_layers > text["num_hidden_layers"]:
            raise ValueError(
                f"num_layers is {self.num_layers}, but the brain has only {text['num_hidden_layers']} layers to read"
            )

    @property
    def num_heads(self) -> int:
        """Attention heads of the cerebellum."""
        return self.hidden_size // self.head_dim

    @property
    def rope_theta(self) -> float:
        """Base of the rotary frequencies, shared by brain and cerebellum."""
        text = self.brain["text_config"]
        return float(text["rope_theta"] if "rope_theta" in text else text["rope_parameters"]["rope_theta"])

    def to_json(self) -> str:
        """The config as JSON text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ModelConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, or a field is missing, unknown or out of range.
        """
        values = json.loads(text)
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown model config fields: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except KeyError as error:
            raise ValueError(f"incomplete model config: the field {error} is missing") from error
        except TypeError as error:
            raise ValueError(f"incomplete model config: {error}") from error

    def with_mask(self, variant: MaskVariant, window: int | None = None, offset: int | None = None) -> "ModelConfig":
        """The same geometry under another attention rule, with that rule's own window and offset unless given."""
        if variant not in MASK_VARIANTS:
            raise ValueError(f"mask_variant is {variant!r}; known variants: {', '.join(MASK_VARIANTS)}")
        default_window, default_offset = MASK_DEFAULTS[variant]
        return replace(
            self,
            mask_variant=variant,
            mask_window=default_window if window is None else window,
            position_offset=default_offset if offset is None else offset,
        )


def preset(name: str, **overrides: Any) -> ModelConfig:
    """The config of a named size, with any `ModelConfig` field replaced.

    Raises:
        ValueError: unknown preset or field, or a field out of range.
    """
    if name not in _PRESETS:
        raise ValueError(f"unknown preset {name!r}; known presets: {', '.join(PRESETS)}")
    try:
        return replace(_PRESETS[name], **overrides)
    except TypeError as error:
        raise ValueError(f"preset {name!r}: {error}") from error


def _brain(text: dict[str, Any], vision: dict[str, Any], special_ids: tuple[int, int, int, int]) -> dict[str, Any]:
    """Fields of a Qwen3VLConfig; special_ids: vision start, vision end, image pad, video pad."""
    return {
        "text_config": {
            **text,
            "rms_norm_eps": 1e-6,
            "rope_theta": 5_000_000.0,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": _MROPE_SECTIONS[text["head_dim"]],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        "vision_config": {
            **vision,
            "in_channels": 3,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": text["hidden_size"],
            "hidden_act": "gelu_pytorch_tanh",
        },
        "vision_start_token_id": special_ids[0],
        "vision_end_token_id": special_ids[1],
        "image_token_id": special_ids[2],
        "video_token_id": special_ids[3],
        "tie_word_embeddings": True,
    }


def _own(
    name: str,
    *,
    vision_layers: int,
    vision_width: int,
    brain_layers: int,
    brain_width: int,
    brain_mlp: int,
    layers: int,
    width: int,
    head_dim: int = 32,
    vocab_size: int = 1024,
    patch_size: int = 8,
    num_taps: int = 1,
    horizon: int = 16,
) -> ModelConfig:
    """A size of our own; `num_taps` DeepStack taps sit after the first vision blocks."""
    num_heads = width // head_dim
    text = {
        "vocab_size": vocab_size,
        "hidden_size": brain_width,
        "intermediate_size": brain_mlp,
        "num_hidden_layers": brain_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_heads,
        "head_dim": head_dim,
        "max_position_embeddings": 4096,
    }
    vision = {
        "depth": vision_layers,
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_heads": vision_width // 32,
        "patch_size": patch_size,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": list(range(num_taps)),
    }
    return ModelConfig(
        name=name,
        brain=_brain(text, vision, (vocab_size - 4, vocab_size - 3, vocab_size - 2, vocab_size - 1)),
        hidden_size=width,
        num_layers=layers,
        head_dim=head_dim,
        num_kv_heads=num_heads,
        mask_variant=OWN_RULE[0],
        mask_window=OWN_RULE[1],
        position_offset=OWN_RULE[2],
        horizon=horizon,
    )


def _xr0() -> ModelConfig:
    """The released size: Qwen3-VL-4B-Instruct as brain, its published config values; 16 layers of width 1024."""
    text = {
        "vocab_size": 151_936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262_144,
    }
    vision = {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "patch_size": 16,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    }
    return ModelConfig(
        name="xr0",
        brain=_brain(text, vision, (151_652, 151_653, 151_655, 151_656)),
        hidden_size=1024,
        num_layers=16,
        head_dim=128,
        num_kv_heads=8,
        mask_variant="causal",
        mask_window=4,
        position_offset=0,
        horizon=30,
    )


_MROPE_SECTIONS = {32: [6, 5, 5], 64: [12, 10, 10], 128: [24, 20, 20]}
"""Rotary frequencies per axis (time, height, width) for a head width; they sum to half of it."""

_PRESETS = {
    config.name: config
    for config in (
        _own(
            "micro",
            vision_layers=2,
            vision_width=96,
            brain_layers=4,
            brain_width=128,
            brain_mlp=576,
            layers=4,
            width=128,
        ),
        _own(
            "nano",
            vision_layers=3,
            vision_width=128,
            brain_layers=4,
            brain_width=192,
            brain_mlp=784,
            layers=4,
            width=128,
            num_taps=2,
        ),
        _own(
            "tiny",
            vision_layers=4,
            vision_width=192,
            brain_layers=8,
            brain_width=256,
            brain_mlp=976,
            layers=4,
            width=192,
            num_taps=3,
        ),
        _own(
            "small",
            vision_layers=8,
            vision_width=384,
            brain_layers=16,
            brain_width=512,
            brain_mlp=2048,
            layers=12,
            width=512,
            head_dim=64,
            vocab_size=8192,
            patch_size=16,
            num_taps=3,
            horizon=30,
        ),
        _xr0(),
    )
}
PRESETS: tuple[str, ...] = tuple(_PRESETS)
