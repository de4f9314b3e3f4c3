"""How chunks are run: mode, horizons, and what to do when something is late or wrong."""

from dataclasses import dataclass
from typing import Literal, get_args

from cerebella.interfaces import MAX_CANDIDATES, PolicyMetadata

Mode = Literal["sync", "naive", "ensemble", "guided", "guided_identity", "best_of_n", "prefix"]
MODES: tuple[Mode, ...] = get_args(Mode)
GUIDED_MODES: tuple[Mode, ...] = ("guided", "guided_identity", "best_of_n")
"""The policy is shown the running plan: it is pulled there (with the Jacobian, or with the identity in its place), or
draws several chunks, and the nearest is taken."""
PROMISING_MODES: tuple[Mode, ...] = (*GUIDED_MODES, "prefix")
"""What will be sent during the inference is laid down with the request."""


SPARE_ROWS = 2
"""Rows that `default_execute_horizon` executes beyond the delay."""


@dataclass(frozen=True)
class ExecutorConfig:
    """How chunks are run. Ticks are those of the policy rate.

    Args:
        mode: one of `MODES`.
        execute_horizon: s, rows of a chunk before the next request; 1..H.
        reply_timeout: ticks after which a request is given up and asked again with the newest observation. At least twice
            the estimated delay; doubled with every time-out in a row, so that a slow policy is heard in the end.
        late_tolerance: a reply beyond its promise takes over at once if the rows that it missed lie within this many
            ticks of motion at full velocity of what was sent instead.
        max_discards: so many replies in a row may be thrown away for being late while the plan lasts; the next one is
            used with a bridge, so that there is always progress.
        degrade_after: so many replies in a row beyond the longest trained prefix (half the horizon in the guided modes)
            switch the modes that promise to waiting (`sync`) until the delay fits again; None never does.
        start_tolerance: a first row farther from the measured pose than this many ticks at full velocity is approached
            slowly before the plan runs.
        start_speed: share of the velocity limits used for that, above 0, up to 1.
        tracking_limit_s: a robot farther from its command than it could move in this time is blocked: the plan is
            dropped, the command comes back to the measured pose, and the next plan starts from there.
        max_outside: a chunk with a value farther outside its range than this share of the range is refused; less is
            limited.
        ensemble_decay: mode `ensemble`: a chunk's weight is exp(-decay * age in ticks), 0 or more.
        num_candidates: mode `best_of_n`: chunks that the policy draws for every request, 1..64.
        max_consecutive_failures: so many rejected replies in a row raise an `InferenceFailure`; None keeps the robot
            still and keeps asking, ever less often.
        num_kept: newest commands and requests that stay in memory; None keeps all.

    Raises:
        ValueError: a value out of its range.
    """

    mode: Mode
    execute_horizon: int
    reply_timeout: int = 60
    late_tolerance: float = 1.0
    max_discards: int = 1
    degrade_after: int | None = 20
    start_tolerance: float = 3.0
    start_speed: float = 0.2
    tracking_limit_s: float = 0.5
    max_outside: float = 0.25
    ensemble_decay: float = 0.1
    num_candidates: int = 16
    max_consecutive_failures: int | None = None
    num_kept: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}; known modes: {', '.join(MODES)}")
        least: dict[str, float] = {
            "reply_timeout": 1,
            "late_tolerance": 0,
            "max_discards": 0,
            "degrade_after": 1,
            "start_tolerance": 0,
            "tracking_limit_s": 0,
            "max_outside": 0,
            "ensemble_decay": 0,
            "num_candidates": 1,
            "max_consecutive_failures": 1,
            "num_kept": 1,
        }
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and not value >= lowest:
                raise ValueError(f"{name} must be {lowest} or more; got {value}")
        if self.num_candidates > MAX_CANDIDATES:
            raise ValueError(f"num_candidates must be {MAX_CANDIDATES} or less; got {self.num_candidates}")
        if not 0 < self.start_speed <= 1:
            raise ValueError(f"start_speed must be above 0 and at most 1 (a share); got {self.start_speed}")


def check_mode(mode: str, metadata: PolicyMetadata) -> None:
    """Raise a ValueError unless the policy can be run in this mode."""
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; known modes: {', '.join(MODES)}")
    if mode == "prefix" and metadata.max_trained_prefix < 1:
        raise ValueError(
            f"the policy {metadata.policy_id} was never trained with an action prefix, which mode 'prefix' needs; "
            f"modes that fit: {', '.join(modes_of(metadata))}"
        )
    if mode in GUIDED_MODES and not metadata.supports_guidance:
        raise ValueError(
            f"the policy {metadata.policy_id} cannot be guided at inference time (it has no `infer_guided`), which mode "
            f"{mode!r} needs; modes that fit: {', '.join(modes_of(metadata))}"
        )


def default_execute_horizon(mode: str, delay: int, horizon: int) -> int:
    """Rows of a chunk to execute before the next request, s, where nobody says: two more than the delay.

    The fresher a plan, the better, until one inference hardly ends before the next begins: of all that the study of
    asynchronous execution varied, this decided most (`docs/study-async.md`). A longer s asks a server less often. `sync`, which
    stands still while it thinks, executes half of every chunk.

    Args:
        delay: ticks that nearly all requests take, 0 or more. horizon: H, rows of a chunk.

    Returns:
        1..H, with delay <= s <= H - delay wherever such an s exists.
    """
    half = max(1, horizon // 2)
    return half if mode == "sync" else min(delay + SPARE_ROWS, max(horizon - delay, half))


def modes_of(metadata: PolicyMetadata) -> tuple[str, ...]:
    """The modes that this policy can be run in."""
    fits = {"prefix": metadata.max_trained_prefix > 0, **dict.fromkeys(GUIDED_MODES, metadata.supports_guidance)}
    return tuple(mode for mode in MODES if fits.get(mode, True))
