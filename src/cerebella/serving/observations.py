"""A map of named arrays as a `Query`, whichever of the usual names its sender uses.

Native names: `images` (view -> uint8[h, w, 3]) or one `images/<view>` each, `state`, `prompt`, `tick`, `timestamp_s`,
`tactile`. The names of openpi's LIBERO and DROID clients mean the same things:

    observation/image, observation/exterior_image_1_left  the embodiment's first view that is not on a wrist
    observation/wrist_image, observation/wrist_image_left its first view on a wrist (left before right)
    observation/wrist_image_right                         the view right_wrist
    observation/state                                     state
    observation/joint_position, .../gripper_position      state, one behind the other
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.serving.errors import WireError
from cerebella.serving.query import Query
from cerebella.types import FloatArray, ImageArray, Observation

MAX_PROMPT_CHARACTERS = 8192

_SCENE_ALIASES = ("observation/image", "observation/exterior_image_1_left")
_WRIST_ALIASES = ("observation/wrist_image", "observation/wrist_image_left")
_RIGHT_WRIST_ALIAS = "observation/wrist_image_right"
_STATE_PARTS = ("observation/joint_position", "observation/gripper_position")
_GUIDANCE_KEYS = ("plan", "num_frozen", "execute_horizon", "use_jacobian", "num_candidates")

OBSERVATION_KEYS = (
    "images", "state", "prompt", "tick", "timestamp_s", "tactile", *_SCENE_ALIASES, *_WRIST_ALIASES,
    _RIGHT_WRIST_ALIAS, "observation/state", *_STATE_PARTS,
)  # fmt: skip
REQUEST_KEYS = ("prefix_actions", "prefix_length", "promised_delay", "deadline_ms", "guidance")
"""What may stand beside an observation; see `read_query`."""


def read_query(fields: Mapping[Any, Any], metadata: PolicyMetadata, now_s: float) -> Query:
    """Everything that a policy needs to know, checked.

    Args:
        fields: decoded message; keys other than those of this module must have been taken out.
            `prefix_actions`: float[p, action_dim] absolute, raw units; `prefix_length`: use only so many of its rows.
            `promised_delay`: ticks, 0 or more; accepted for records. `deadline_ms`: of use within so many milliseconds.
            `guidance`: map of `plan`, `num_frozen`, `execute_horizon` and optionally `use_jacobian` and `num_candidates`,
            see `Guidance`.
        metadata: of the policy.
        now_s: the time stamp of an observation that comes without one.

    Raises:
        WireError: an unknown or missing key, a wrong type, shape or range; says which.
    """
    embodiment = metadata.embodiment
    try:
        state = _state(fields)
        embodiment.check_state(state)
        observation = Observation(
            state=state,
            prompt=_prompt(fields),
            tick=integer(fields, "tick", 0),
            timestamp_s=_number(fields, "timestamp_s", now_s),
            images=_images(fields, embodiment.views),
            tactile=_tactile(fields),
        )
        prefix = _prefix(fields, metadata)
        guidance = _guidance(fields, metadata)
    except ValueError as error:  # the nouns say what is wrong in words for people
        raise error if isinstance(error, WireError) else WireError(str(error)) from error
    if guidance is not None and len(prefix):
        raise WireError("a request has prefix_actions or guidance, not both")
    integer(fields, "promised_delay", 0)
    deadline_ms = _number(fields, "deadline_ms", math.inf)
    if deadline_ms < 0:
        raise WireError(f"deadline_ms must be 0 or more; got {deadline_ms}")
    return Query(observation, prefix, guidance, deadline_ms / 1e3)


def check_keys(fields: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    """Raise a WireError that names the first key that nobody would read."""
    for key in fields:
        if key not in known and not (isinstance(key, str) and key.startswith("images/")):
            raise WireError(f"unknown key {str(key)[:60]!r}; known: {', '.join(known)}")


def integer(fields: Mapping[Any, Any], key: str, default: int) -> int:
    """An entry that must be an integer of 0 or more."""
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise WireError(f"{key} must be an integer of 0 or more; got {str(value)[:40]}")
    return int(value)


def _number(fields: Mapping[Any, Any], key: str, default: float) -> float:
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or math.isnan(value):
        raise WireError(f"{key} must be a number; got {str(value)[:40]}")
    return float(value)


def _prompt(fields: Mapping[Any, Any]) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, bytes):  # openpi's DROID client may send it so
        prompt = prompt.decode("utf-8", "strict")
    if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT_CHARACTERS:
        raise WireError(f"prompt must be text of at most {MAX_PROMPT_CHARACTERS} characters")
    return prompt


def _state(fields: Mapping[Any, Any]) -> FloatArray:
    given = [key for key in ("state", "observation/state") if key in fields]
    parts = [key for key in _STATE_PARTS if key in fields]
    if len(given) + bool(parts) != 1:
        raise WireError(f"a request needs the state once: as state, observation/state, or {' and '.join(_STATE_PARTS)}")
    if given:
        return _floats(fields[given[0]], given[0], 1)
    return np.concatenate([_floats(fields[key], key, 1) for key in parts])


def _images(fields: Mapping[Any, Any], views: tuple[str, ...]) -> dict[str, ImageArray]:
    images: dict[str, Any] = {}
    nested = fields.get("images", {})
    if not isinstance(nested, Mapping):
        raise WireError("images must be a map from views to pictures")
    prefixed = {key[len("images/") :]: fields[key] for key in fields if str(key).startswith("images/")}
    scene = next((view for view in views if not view.endswith("wrist")), None)
    wrist = next((view for view in ("left_wrist", "right_wrist") if view in views), None)
    aliases = [(key, scene) for key in _SCENE_ALIASES] + [(key, wrist) for key in _WRIST_ALIASES]
    aliases.append((_RIGHT_WRIST_ALIAS, "right_wrist" if "right_wrist" in views else None))
    named = [*nested.items(), *prefixed.items(), *((view, fields[key]) for key, view in aliases if key in fields)]
    for view, picture in named:
        if view not in views:
            raise WireError(
                f"a picture of the view {str(view)[:40]!r}; the policy's views: {', '.join(views) or 'none'}"
            )
        if view in images:
            raise WireError(f"two pictures of the view {view!r}")
        images[view] = picture
    if missing := [view for view in views if view not in images]:
        raise WireError(f"the picture of the view {missing[0]!r} is missing; the policy's views: {', '.join(views)}")
    return images


def _tactile(fields: Mapping[Any, Any]) -> dict[str, FloatArray]:
    tactile = fields.get("tactile", {})
    if not isinstance(tactile, Mapping) or not all(isinstance(finger, str) for finger in tactile):
        raise WireError("tactile must be a map from fingers to float32[11, 9]")
    return {finger: _floats(taxels, f"tactile {finger[:40]!r}", 2) for finger, taxels in tactile.items()}


def _prefix(fields: Mapping[Any, Any], metadata: PolicyMetadata) -> FloatArray:
    action_dim = metadata.embodiment.action_dim
    given = fields.get("prefix_actions")
    rows = np.zeros((0, action_dim), dtype=np.float32) if given is None else _floats(given, "prefix_actions", 2)
    length = integer(fields, "prefix_length", len(rows))
    if length > len(rows):
        raise WireError(f"prefix_length is {length}, but prefix_actions has {len(rows)} rows")
    rows = rows[:length]
    if not length:
        return np.zeros((0, action_dim), dtype=np.float32)
    metadata.embodiment.check_actions(rows)
    if length > metadata.horizon - 1:
        raise WireError(f"the action prefix has {length} rows; at most {metadata.horizon - 1} fit a chunk")
    if not np.isfinite(rows).all():
        raise WireError("prefix_actions must be finite")
    return rows


def _guidance(fields: Mapping[Any, Any], metadata: PolicyMetadata) -> Guidance | None:
    given = fields.get("guidance")
    if given is None:
        return None
    if not metadata.supports_guidance:
        raise WireError(f"policy {metadata.policy_id} cannot be guided at inference time")
    if not isinstance(given, Mapping):
        raise WireError(f"guidance must be a map of {', '.join(_GUIDANCE_KEYS)}")
    check_keys(given, _GUIDANCE_KEYS)
    if "plan" not in given or "execute_horizon" not in given or "num_frozen" not in given:
        raise WireError("guidance needs plan, num_frozen and execute_horizon")
    plan = _floats(given["plan"], "guidance plan", 2)
    metadata.embodiment.check_actions(plan)
    if len(plan) > metadata.horizon or not np.isfinite(plan).all():
        raise WireError(f"the guidance plan must be finite and have at most {metadata.horizon} rows; got {len(plan)}")
    use_jacobian = given.get("use_jacobian", True)
    if not isinstance(use_jacobian, bool | np.bool_):
        raise WireError("use_jacobian must be true or false")
    counts = {key: integer(given, key, 0) for key in ("num_frozen", "execute_horizon", "num_candidates")}
    return Guidance(plan, use_jacobian=bool(use_jacobian), **counts)


def _floats(value: object, name: str, ndim: int) -> FloatArray:
    """float32 with `ndim` axes, from an array of numbers or (nested) lists of them; a single number is a vector."""
    if isinstance(value, list | int | float) and not isinstance(value, bool):
        try:
            value = np.asarray(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise WireError(f"{name} must be numbers") from error
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise WireError(f"{name} must be an array of numbers")
    if value.ndim == 0 and ndim == 1:
        value = value[None]
    if value.ndim != ndim:
        raise WireError(f"{name} must have {ndim} axes; got the shape {list(value.shape)}")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, which is refused
        return value.astype(np.float32, copy=False)
