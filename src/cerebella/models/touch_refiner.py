"""`TouchRefiner`: from what the fingertips feel now and felt in the goal to how the wrist must move (TacRefineNet).

After the second version of the paper (arXiv 2509.25746): one encoder per finger image with shared weights, self-attention over
fingers, the same for the goal, cross-attention from now (queries) to the goal (keys, values), a transformer over the result
and both joint vectors, and two heads: nine numbers of a rotation, three of a translation.

    counts  -> fingers -> self-attention --+-> cross-attention -> [fingers, joints, goal joints] -> rotation, translation
    goal    -> (the same weights) ---------+

The 12 numbers are D row by row, then its translation in metres; the new wrist pose is `W' = W D`. The nine numbers are no
rotation yet: `unpack` takes the nearest one. What the network sees and says is normalised inside, by buffers that travel
with its weights.

The loss is the mean square of the normalised numbers. One scale serves all nine entries of R - I and one all three of the
translation (`ROTATION_SCALE`, `TRANSLATION_SCALE_M`), chosen so that for small errors it is
`1/12 ((distance / 5 mm)^2 + (angle / 5 deg)^2)`: a millimetre costs what a degree costs, and the strictest grade of the paper
has 5 of each. A scale per entry would give entries that hardly vary, such as the diagonal, the weight of those that matter.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cerebella.geometry import Array, compose, inverse, nearest_rotation, transform
from cerebella.models.touch_encoders import (
    HEAD_DIM,
    Block,
    ConvolutionalBranches,
    EncoderGeometry,
    MlpEncoder,
    VitEncoder,
)

EncoderName = Literal["vit", "mlp", "cnn"]
InputName = Literal["all", "no_touch", "no_joints"]
TargetName = Literal["increment", "absolute"]
_CHOICES = {"encoder": get_args(EncoderName), "inputs": get_args(InputName), "target": get_args(TargetName)}
_ENCODERS = {"vit": VitEncoder, "mlp": MlpEncoder, "cnn": ConvolutionalBranches}

TRANSLATION_SCALE_M = 5e-3
ROTATION_SCALE = math.sqrt(2) * math.radians(5.0)
"""A turn by a small angle changes R by sqrt(2) times the angle, as the root of the sum of squares."""


@dataclass(frozen=True)
class TouchRefinerConfig(EncoderGeometry):
    """Geometry of a refiner, what it reads, and what it says.

    Args:
        num_joints: of the hand. Other numbers: see `EncoderGeometry`.
        encoder: `vit` or `mlp` before the attention described above; `cnn` is the first version of the paper: a
            convolutional branch per finger, all of them and the current joints joined by an MLP.
        finger_depth, fusion_depth: blocks over fingers, and over everything at the end.
        inputs: `no_touch` and `no_joints` cut one of the two.
        fingers: whose taxels are read; None is all. The joints of the others stay.
        target: `increment` says D. `absolute` says where the object lies, once per grasp and without looking at the other,
            and D is the difference: the baseline that the paper compares with.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    num_joints: int = 11
    encoder: EncoderName = "vit"
    finger_depth: int = 1
    fusion_depth: int = 2
    inputs: InputName = "all"
    fingers: tuple[int, ...] | None = None
    target: TargetName = "increment"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        counts = [name for name, value in asdict(self).items() if isinstance(value, int)]
        for name in counts:
            least = 0 if name.endswith("depth") else 1
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more; got {getattr(self, name)}")
        for name in ("width", "patch_width"):
            if getattr(self, name) % HEAD_DIM:
                raise ValueError(f"{name} must be a multiple of {HEAD_DIM}; got {getattr(self, name)}")
        if self.fingers is not None:
            object.__setattr__(self, "fingers", tuple(self.fingers))
            if not self.fingers or sorted(set(self.fingers)) != sorted(self.fingers) or not self._are_fingers():
                raise ValueError(
                    f"fingers must be different numbers in 0..{self.num_fingers - 1}, one or more; got {self.fingers}"
                )

    def _are_fingers(self) -> bool:
        return all(0 <= finger < self.num_fingers for finger in self.fingers or ())

    def to_json(self) -> dict[str, Any]:
        """For `config.json`; `TouchRefinerConfig(**values)` reads it back."""
        return json.loads(json.dumps(asdict(self)))


class TouchRefiner(nn.Module):
    """See the module; freshly initialised.

    Buffers: `joint_mean`, `joint_scale` float32[J] rad, set by `set_joint_statistics`; `number_mean`, `number_scale`
    float32[12], the identity and the two scales above.
    """

    joint_mean: Tensor
    joint_scale: Tensor
    number_mean: Tensor
    number_scale: Tensor
    finger_mask: Tensor

    def __init__(self, config: TouchRefinerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.encoder = _ENCODERS[config.encoder](config)
        num_tokens = config.num_fingers + (1 if config.target == "absolute" else 2)
        if config.encoder == "cnn":
            num_images = 1 if config.target == "absolute" else 2
            self.fuse = nn.Sequential(
                nn.Linear(num_images * config.num_fingers * width + config.num_joints, 4 * width),
                nn.GELU(approximate="tanh"),
                nn.Linear(4 * width, 4 * width),
                nn.GELU(approximate="tanh"),
            )
            num_features = 4 * width
        else:
            self.finger_embed = nn.Parameter(0.02 * torch.randn(config.num_fingers, width))
            self.finger_blocks = nn.ModuleList(Block(width) for _ in range(config.finger_depth))
            self.joint_tokens = nn.Linear(config.num_joints, width)
            self.token_embed = nn.Parameter(0.02 * torch.randn(num_tokens, width))
            self.fusion_blocks = nn.ModuleList(Block(width) for _ in range(config.fusion_depth))
            self.norm = nn.LayerNorm(width)
            if config.target == "increment":
                self.cross = Block(width)
            num_features = num_tokens * width
        self.rotation = _head(num_features, width, 9)
        self.translation = _head(num_features, width, 3)
        read = range(config.num_fingers) if config.fingers is None else config.fingers
        mask = torch.zeros(config.num_fingers, 1, 1)
        mask[list(read)] = 0.0 if config.inputs == "no_touch" else 1.0
        self.register_buffer("finger_mask", mask, persistent=False)
        self.register_buffer("joint_mean", torch.zeros(config.num_joints))
        self.register_buffer("joint_scale", torch.ones(config.num_joints))
        self.register_buffer("number_mean", torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
        scale = [ROTATION_SCALE] * 9 + [TRANSLATION_SCALE_M] * 3
        self.register_buffer("number_scale", torch.tensor(scale))

    def set_joint_statistics(self, mean: NDArray[np.floating], scale: NDArray[np.floating]) -> None:
        """What joints are standardised with, float[J] radians.

        Raises:
            ValueError: another shape, or a scale that is not above 0.
        """
        wanted = (self.config.num_joints,)
        if mean.shape != wanted or scale.shape != wanted or not bool((scale > 0).all()):
            raise ValueError(
                f"joint statistics must be float{list(wanted)} rad with scales above 0; got {mean}, {scale}"
            )
        self.joint_mean.copy_(torch.from_numpy(np.asarray(mean, dtype=np.float32)))
        self.joint_scale.copy_(torch.from_numpy(np.asarray(scale, dtype=np.float32)))

    def forward(self, pressures: Tensor, joints: Tensor, goal_pressures: Tensor, goal_joints: Tensor) -> Tensor:
        """Normalised numbers float[B, K, 12]: K = 1, of D; or K = 2 with absolute targets, of both poses.

        Args:
            pressures, goal_pressures: float[B, F, R, C], counts / 255. joints, goal_joints: float[B, J], radians.
        """
        fingers = self._fingers(torch.stack([pressures, goal_pressures]).flatten(0, 1))
        values = self._standardised(torch.stack([joints, goal_joints]).flatten(0, 1))
        if self.config.target == "absolute":
            return self._heads(self._fused([fingers], [values])).unflatten(0, (2, -1)).transpose(0, 1)
        now_and_goal = fingers.unflatten(0, (2, -1)).unbind(), values.unflatten(0, (2, -1)).unbind()
        return self._heads(self._fused(*now_and_goal))[:, None]

    def numbers(self, normalised: Tensor) -> Tensor:
        """Normalised numbers to those of transforms: rotation entries and metres. float[..., 12] -> float[..., 12]."""
        return normalised * self.number_scale + self.number_mean

    def normalised(self, numbers: Tensor) -> Tensor:
        """The inverse of `numbers`."""
        return (numbers - self.number_mean) / self.number_scale

    def _standardised(self, joints: Tensor) -> Tensor:
        values = (joints - self.joint_mean) / self.joint_scale
        return values * 0.0 if self.config.inputs == "no_joints" else values

    def _fingers(self, pressures: Tensor) -> Tensor:
        """Tokens of one grasp, float[B, F, width]."""
        tokens = self.encoder(pressures * self.finger_mask)
        if self.config.encoder == "cnn":
            return tokens
        tokens = tokens + self.finger_embed
        for block in self.finger_blocks:
            tokens = block(tokens)
        return tokens

    def _fused(self, fingers: Sequence[Tensor], joints: Sequence[Tensor]) -> Tensor:
        """One vector per pair (or per grasp, if only one is given)."""
        if self.config.encoder == "cnn":
            return self.fuse(torch.cat([*(each.flatten(1) for each in fingers), joints[0]], dim=1))
        tokens = fingers[0] if len(fingers) == 1 else self.cross(fingers[0], fingers[1])
        told = [self.joint_tokens(each)[:, None] for each in joints]
        x = torch.cat([tokens, *told], dim=1) + self.token_embed
        for block in self.fusion_blocks:
            x = block(x)
        return self.norm(x).flatten(1)

    def _heads(self, features: Tensor) -> Tensor:
        return torch.cat([self.rotation(features), self.translation(features)], dim=-1)


def _head(num_in: int, width: int, num_out: int) -> nn.Sequential:
    """Starts at the identity: its last layer is small."""
    last = nn.Linear(width, num_out)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(num_in, width), nn.GELU(approximate="tanh"), last)


def unpack(numbers: ArrayLike) -> Array:
    """12 numbers to transforms; nine that are no rotation become the nearest one. [..., 12] -> float64[..., 4, 4]."""
    values = np.asarray(numbers, dtype=np.float64)
    return transform(nearest_rotation(values[..., :9].reshape(*values.shape[:-1], 3, 3)), values[..., 9:])


def increments(numbers: ArrayLike) -> Array:
    """D from what a refiner says: float[..., K, 12] -> float64[..., 4, 4], metres.

    K = 1: of D itself. K = 2: of the poses of the object now and in the goal, D = T_c inv(T_g).

    Raises:
        ValueError: another K, or a number that is not finite.
    """
    transforms = unpack(numbers)
    if transforms.shape[-3] == 1:
        return transforms[..., 0, :, :]
    if transforms.shape[-3] != 2:
        raise ValueError(f"a refiner says 1 or 2 transforms; got {transforms.shape[-3]}")
    return compose(transforms[..., 0, :, :], inverse(transforms[..., 1, :, :]))
