"""The seams of the acting side: a policy thinks, a transport carries questions to it and answers back, an environment
(or robot) acts, a filter may correct.

Each is a protocol of one to four methods; anything with these methods fits, there is nothing to inherit from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.types import Action, ActionChunk, FloatArray, Observation


@dataclass(frozen=True)
class PolicyMetadata:
    """What an executor must know about a policy before it lets it move anything.

    Args:
        policy_id: name and weights hash; written into every chunk and result.
        embodiment: what the numbers mean.
        horizon: rows in a chunk (H).
        mask_variant: attention rule that the weights were trained with; None for a policy without attention.
        max_trained_prefix: longest action prefix seen in training; 0 if it takes none.
        statistics_hash: identifies the normalisation; two policies that share it can be swapped in place.
        supports_guidance: the policy has `infer_guided` (modes `guided`, `guided_identity` and `best_of_n`).
    """

    policy_id: str
    embodiment: Embodiment
    horizon: int
    mask_variant: str | None
    max_trained_prefix: int
    statistics_hash: str
    supports_guidance: bool = False


class Policy(Protocol):
    """Observation in, chunk of absolute actions out. Called from one worker thread at a time."""

    @property
    def metadata(self) -> PolicyMetadata:
        """What an executor must know; constant."""
        ...

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """Compute the next chunk; row 0 belongs to `observation.tick`.

        Args:
            observation: the newest one.
            action_prefix: float32[p, action_dim], absolute, raw units: commands sent or promised for the ticks
                `observation.tick ... + p - 1`. p = 0 is an empty array, never zeros.

        Raises:
            ValueError: wrong shapes or p > H - 1.
        """
        ...


MAX_CANDIDATES = 64
"""The most chunks that one request may have drawn: what a server lets a client ask for."""


@dataclass(frozen=True, eq=False)
class Guidance:
    """The running plan, shown to a sampler that was not trained to continue it.

    Either the sampler pulls its chunk towards the plan at every flow step (RTC, arXiv 2506.07339), or it draws several
    chunks without looking and returns the one nearest to it (BID without its contrast, arXiv 2408.17355).

    Args:
        plan: float32[k, action_dim], absolute, raw units: what the running chunk has for the ticks
            `observation.tick ... + k - 1`; 1..H rows.
        num_frozen: how many of them will be sent whatever the answer is (d); full weight.
        execute_horizon: rows between two inferences (s); rows from H - s on are free.
        use_jacobian: pull through the Jacobian of the denoiser, as in the paper; False takes it as the identity.
        num_candidates: 0 pulls; N draws N chunks (at most 64) and chooses, and `use_jacobian` means nothing.
    """

    plan: FloatArray
    num_frozen: int
    execute_horizon: int
    use_jacobian: bool = True
    num_candidates: int = 0

    def __post_init__(self) -> None:
        if self.plan.ndim != 2 or self.plan.dtype != np.float32 or not len(self.plan):
            raise ValueError(
                f"Guidance.plan must be float32[k, action_dim], k >= 1; got {self.plan.dtype}{list(self.plan.shape)}"
            )
        if not 0 <= self.num_frozen <= len(self.plan):
            raise ValueError(f"Guidance.num_frozen must be in 0..{len(self.plan)} rows; got {self.num_frozen}")
        if self.execute_horizon < 1:
            raise ValueError(f"Guidance.execute_horizon must be 1 or more rows; got {self.execute_horizon}")
        if not 0 <= self.num_candidates <= MAX_CANDIDATES:
            raise ValueError(
                f"Guidance.num_candidates must be in 0..{MAX_CANDIDATES} (0 pulls instead); got {self.num_candidates}"
            )


@dataclass(frozen=True, eq=False)
class Request:
    """One question to a policy.

    Args:
        id: counts up within an executor; a repeated question gets a new one.
        observation: what was seen.
        action_prefix: float32[p, action_dim], the rows promised for the ticks from `observation.tick` on.
        promised_delay: d, ticks.
        guidance: for the modes that show the running plan (`executor_config.GUIDED_MODES`); None otherwise.
        deadline_s: the answer is of use within so many seconds from now; a server may answer the most urgent first.
    """

    id: int
    observation: Observation
    action_prefix: FloatArray
    promised_delay: int
    guidance: Guidance | None = None
    deadline_s: float = math.inf

    def kept(self) -> "Request":
        """The same request with an observation of its own.

        Observations share their arrays with whoever measured them, and a driver may use its buffers again. What reads a
        request after `submit` has returned must keep it in this way, or an answer would know the future.
        """
        seen = self.observation
        images = {view: picture.copy() for view, picture in seen.images.items()}
        tactile = {finger: taxels.copy() for finger, taxels in seen.tactile.items()}
        return replace(self, observation=replace(seen, state=seen.state.copy(), images=images, tactile=tactile))


@dataclass(frozen=True, eq=False)
class Reply:
    """The answer: a chunk, or the error that prevented it (exactly one of the two)."""

    request_id: int
    chunk: ActionChunk | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.chunk is None) == (self.error is None):
            raise ValueError(f"a reply carries a chunk or an error; request {self.request_id} got both or neither")


class Transport(Protocol):
    """Carries requests to a policy. Called from the control thread only; no call waits for an inference.

    A request may be followed by another before it is answered (it was given up): the newest one counts, an older
    answer may come later, or never.
    """

    def submit(self, request: Request) -> None:
        """Send a request on its way."""
        ...

    def poll(self, tick: int) -> list[Reply]:
        """The replies that have arrived by `tick` and were not returned before, in order of arrival."""
        ...

    def close(self) -> None:
        """Drop what is pending and end. May be called twice."""
        ...


@dataclass(frozen=True)
class Status:
    """Where an episode stands. `reason` is empty while it runs; `metrics` are named numbers for the result row."""

    is_done: bool
    is_success: bool
    reason: str
    metrics: Mapping[str, float] = field(default_factory=dict)


class Environment(Protocol):
    """A robot or a simulator at control rate. `apply` is followed by time passing: one tick."""

    @property
    def embodiment(self) -> Embodiment:
        """What states and actions mean here; constant."""
        ...

    def reset(self, seed: int) -> None:
        """Start a new episode at tick 0; the seed decides everything that happens in it."""
        ...

    def observe(self) -> Observation:
        """What is measured at the current tick. No side effect."""
        ...

    def apply(self, action: Action) -> None:
        """Execute the command of the current tick.

        Raises:
            ValueError: wrong shape, or `action.tick` is not the current tick.
        """
        ...

    def status(self) -> Status:
        """Where the episode stands at the current tick. No side effect."""
        ...


@dataclass(frozen=True)
class Takeover:
    """A filter's claim on the robot: it sends `action` now and owns the next `remaining_ticks` ticks."""

    action: Action
    remaining_ticks: int
    reason: str


class ActionFilter(Protocol):
    """Sits between executor and safety, at control rate; sees each command before it is sent."""

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        """The command to send instead (often `action` itself), or a claim on the next ticks."""
        ...
