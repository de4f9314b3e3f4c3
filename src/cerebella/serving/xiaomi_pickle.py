"""The benchmark socket of Xiaomi-Robotics-0, for its released clients (`deploy/client.py`, `eval_*/main.py`) as they are.

From the released code: TCP, each message behind its length in 4 bytes (big-endian), pickled both ways. A request is a flat
map: `task_id` (robot type), `state` (float64[32] or [1, 1, 32], the numbers in the slots of the model), `base` and (LIBERO,
CALVIN) `wrist_left` as RGB PIL images, `language` (the instruction; the SimplerEnv client sends the whole prompt around
it), `seed`. The answer is a pickled CPU tensor, float32[1, 30, 32], decoded. An error ends the connection, without words.

Here, the request is read by `pickled_request`, which calls nothing. The clients index the answer as a tensor and call its
`.cpu()`, so it has to be one: the answer is the pickle of `torch.tensor(rows)`, written without torch. What it costs the
client to trust us is its own affair; our side does not trust it. There is no authentication in this protocol, so it is off
unless asked for, and binds to the loopback interface only.

`seed` is not used: the policy derives its noise from the observation.
"""

import pickle
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.processing.prompt import robot_prompt
from cerebella.serving.dialect import Dialect, Peer
from cerebella.serving.errors import RequestFailed, WireError
from cerebella.serving.observations import read_query
from cerebella.serving.pickled_request import RequestValue, read_request
from cerebella.serving.query import Query
from cerebella.serving.service import Service
from cerebella.types import FloatArray

NUM_SLOTS = 32
"""Width of the padded state and action vectors of Xiaomi-Robotics-0."""
KEYS = ("task_id", "state", "base", "wrist_left", "language", "seed")


class XiaomiPickleDialect(Dialect):
    """Pickled observations in, pickled tensors out; one session per connection."""

    name = "xiaomi_pickle"
    framing = "length_prefix"

    async def serve(self, peer: Peer, service: Service) -> None:
        """Answer one request after the other, until one is refused or fails."""
        session = f"{peer.id}/0"
        num_requests = 0
        try:
            while True:
                message = await peer.receive()
                try:
                    if isinstance(message, str):
                        raise WireError("a message must be a pickled request; got text", "syntax")
                    request = await service.offload(read_request, message)
                    query = query_of(request, service.metadata, num_requests)
                    answer = await service.infer(session, query, self.name)
                except WireError as error:
                    service.reject(self.name, error.reason)
                    return await peer.close(1003, str(error))
                except RequestFailed as error:
                    return await peer.close(1011, str(error))
                await peer.send(pickled_tensor(in_slots(service.metadata.embodiment, answer.chunk.actions)))
                num_requests += 1
        finally:
            service.forget(session)


def query_of(request: Mapping[str, RequestValue], metadata: PolicyMetadata, num_requests: int) -> Query:
    """The question in a request; the tick is `num_requests`, since a request names none.

    Raises:
        WireError: an unknown key, another robot, a missing view, or a part of the wrong type, shape or range.
    """
    embodiment = metadata.embodiment
    unknown = [key for key in request if key not in KEYS]
    if unknown:
        raise WireError(f"unknown key {unknown[0][:60]!r}; known: {', '.join(KEYS)}")
    if request.get("task_id") != embodiment.name:
        raise WireError(
            f"this policy is of the robot type {embodiment.name!r}; got {str(request.get('task_id'))[:60]!r}"
        )
    views = {"base": "base" if "base" in embodiment.views else "ego", "wrist_left": "left_wrist"}
    images = {view: request[key] for key, view in views.items() if key in request}
    fields = {
        "state": _state(request.get("state"), embodiment),
        "prompt": _instruction(request.get("language"), list(images)),
        "tick": num_requests,
        "images": images,
    }
    return read_query(fields, metadata, time.monotonic())


def in_slots(embodiment: Embodiment, actions: FloatArray) -> FloatArray:
    """float32[..., 32]: each action dimension in its slot, 0 elsewhere, as the released `decode_action` returns them."""
    padded = np.zeros((*actions.shape[:-1], NUM_SLOTS), dtype=np.float32)
    for i, dimension in enumerate(embodiment.actions):
        padded[..., dimension.slot] = actions[..., i]
    return padded


def pickled_tensor(rows: FloatArray) -> bytes:
    """The pickle of `torch.tensor([rows])`, float32[1, H, 32]: every torch reads it, whatever its version and NumPy's."""
    nested = pickle.dumps([rows.tolist()], protocol=2)  # PROTO (2 bytes) ... STOP (1 byte)
    return b"\x80\x02ctorch\ntensor\n" + nested[2:-1] + b"\x85R."


def _state(value: object, embodiment: Embodiment) -> NDArray[Any]:
    """Numbers [state_dim] out of the slots of the released vector."""
    slots = [dimension.slot for dimension in embodiment.states if dimension.slot is not None]
    if len(slots) != embodiment.state_dim:
        raise WireError(
            f"the robot type {embodiment.name!r} measures numbers that have no slot in the released state vector; "
            "use another dialect"
        )
    if not isinstance(value, np.ndarray) or value.size != NUM_SLOTS:
        raise WireError(f"state must be an array of {NUM_SLOTS} numbers")
    return value.reshape(-1)[slots]


def _instruction(language: object, views: list[str]) -> object:
    """The instruction, taken out of the prompt that the SimplerEnv client puts around it."""
    if not isinstance(language, str) or not language.startswith("<|im_start|>"):
        return language
    before, after = robot_prompt(views, "\0").split("\0")
    if not (language.startswith(before) and language.endswith(after) and len(language) >= len(before) + len(after)):
        raise WireError(f"language is a prompt, but not the released one for the views {', '.join(views)}")
    return language[len(before) : len(language) - len(after)]
