"""`TouchPolicy`: a `TouchRefiner` from counts and joints to the wrist increment; and its directory.

config.json            geometry of the model, what it reads and says
model.safetensors      weights and normalisation, float32
embedding.safetensors  what `embedding` measures distances with
calibration.json       numbers for the confidence check, by name
recipe.json  curves.jsonl  validation.jsonl  curves.png  README.md   how it was made
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cerebella.embodiment import read_json_object
from cerebella.geometry import Array
from cerebella.models.touch_refiner import TouchRefiner, TouchRefinerConfig, increments
from cerebella.policies.touch_embedding import FILE as EMBEDDING
from cerebella.policies.touch_embedding import TouchEmbedding
from cerebella.types import FloatArray

MODEL_TYPE = "cerebella_touch"
FILES = ("config.json", "model.safetensors", EMBEDDING, "calibration.json")
CountArray = NDArray[np.uint8]


class TouchPolicy:
    """What a refinement asks: which increment, and is this grasp like those of the training? Stateless between calls.

    Args:
        model: put into evaluation mode.
        embedding: measures how far a reading lies from the training.
        calibration: numbers by name, such as `distance_limit`, the length of an embedding that nearly no grasp of the
            training exceeds.
        policy_id: what results call it.
    """

    def __init__(
        self,
        model: TouchRefiner,
        embedding: TouchEmbedding,
        calibration: Mapping[str, float],
        policy_id: str = "",
    ) -> None:
        self.model = model.eval()
        self.touch_embedding = embedding
        self.policy_id = policy_id
        self._calibration = MappingProxyType(dict(calibration))

    @property
    def calibration(self) -> Mapping[str, float]:
        """See the class."""
        return self._calibration

    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        """The wrist increment D, float64[4, 4] metres, `W' = W D`.

        Args:
            counts, goal_counts: uint8[5, 11, 9], 0..255. joints, goal_joints: float32[11] radians.

        Raises:
            ValueError: a wrong shape or type, a joint that is not finite.
        """
        return self.predict_many(counts[None], joints[None], goal_counts[None], goal_joints[None])[0]

    @torch.inference_mode()
    def predict_many(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        """`predict` for n pairs at once: every array with a leading axis n -> float64[n, 4, 4]."""
        if len(counts) != len(goal_counts):
            raise ValueError(f"need as many goals as grasps; got {len(goal_counts)} and {len(counts)}")
        now, goal = self._inputs(counts, joints), self._inputs(goal_counts, goal_joints)
        return increments(self.model.numbers(self.model(*now, *goal)).numpy())

    def embedding(self, counts: CountArray, joints: FloatArray) -> FloatArray:
        """The way to one grasp from the nearest typical one of the training, float32[k]; its length is the distance.

        Raises:
            ValueError: as `predict`.
        """
        return self.embedding_many(counts[None], joints[None])[0]

    def embedding_many(self, counts: CountArray, joints: FloatArray) -> FloatArray:
        """`embedding` for n grasps at once: float32[n, k]."""
        self._check(counts, joints)
        return self.touch_embedding.embed(counts, joints)

    def save(self, directory: Path) -> None:
        """Write the directory; `config.json` comes last, so that a directory with it is complete."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: x.contiguous() for name, x in self.model.state_dict().items()}, directory / FILES[1])
        self.touch_embedding.save(directory)
        (directory / "calibration.json").write_text(json.dumps(dict(self.calibration), indent=1) + "\n")
        partial = directory / "config.json.new"
        partial.write_text(json.dumps({"model_type": MODEL_TYPE, "model": asdict(self.model.config)}, indent=1) + "\n")
        partial.replace(directory / "config.json")

    @classmethod
    def load(cls, directory: Path) -> "TouchPolicy":
        """Read what `save` wrote; the policy is called like the directory.

        Raises:
            FileNotFoundError: a file is missing (names it). ValueError: another kind of policy, or a file does not fit.
        """
        for name in FILES:
            if not (directory / name).is_file():
                raise FileNotFoundError(f"{directory} is not the directory of a touch policy: {name} is missing")
        calibration = read_json_object(directory / "calibration.json")
        if wrong := [name for name, value in calibration.items() if not isinstance(value, int | float)]:
            raise ValueError(f"{directory / 'calibration.json'}: {', '.join(wrong)} must be numbers")
        with (directory / FILES[1]).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        policy_id = f"{directory.resolve().name}@{digest[:12]}"
        return cls(load_refiner(directory), TouchEmbedding.load(directory), calibration, policy_id)

    def _inputs(self, counts: CountArray, joints: FloatArray) -> tuple[Tensor, Tensor]:
        self._check(counts, joints)
        return torch.from_numpy(counts).float() / 255, torch.from_numpy(joints)

    def _check(self, counts: CountArray, joints: FloatArray) -> None:
        config = self.model.config
        taxels = (config.num_fingers, config.num_rows, config.num_columns)
        if counts.dtype != np.uint8 or counts.shape[1:] != taxels:
            raise ValueError(f"counts must be uint8[n, {str(list(taxels))[1:]}; got {counts.dtype}{list(counts.shape)}")
        if joints.dtype != np.float32 or joints.shape != (len(counts), config.num_joints):
            raise ValueError(
                f"joints (rad) must be float32[{len(counts)}, {config.num_joints}]; got {joints.dtype}{list(joints.shape)}"
            )
        if not np.isfinite(joints).all():
            raise ValueError("joints (rad) must be finite")


def load_refiner(directory: Path) -> TouchRefiner:
    """The network of a directory, for training it further.

    Raises:
        ValueError: another kind of policy, or weights that do not fit its configuration.
    """
    stored = read_json_object(directory / "config.json")
    if stored.get("model_type") != MODEL_TYPE:
        raise ValueError(f"{directory}: model_type is {stored.get('model_type')!r}; wanted {MODEL_TYPE!r}")
    try:
        model = TouchRefiner(TouchRefinerConfig(**stored["model"]))
        model.load_state_dict(load_file(directory / FILES[1]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory / 'config.json'}: a field is missing or unknown: {error}") from error
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{directory / FILES[1]} does not fit {directory / 'config.json'}: {error}") from error
    return model
