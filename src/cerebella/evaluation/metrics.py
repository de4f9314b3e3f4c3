"""Real-time metrics as pure functions of what was sent: one `CommandLog` per episode, no policy and no clock inside.

Notation in the formulas: c(n) the command of tick n, period = 1 / control_hz, H rows per chunk, s = execute_horizon,
r = ticks consumed between an observation and its first used row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Embodiment
from cerebella.runtime.trace import RequestRecord, TickRecord
from cerebella.types import FloatArray

SEAM_LIMIT = 3.0
"""A seam ratio above this counts as a visible jump."""


@dataclass(frozen=True, eq=False)
class CommandLog:
    """The command stream of one episode as arrays over its N ticks.

    Args:
        ticks: int64[N]. values: float32[N, action_dim], raw units, as sent.
        is_running: bool[N], false while the robot holds still for want of a plan.
        chunk_id: int64[N], which request's chunk the command came from; -1 while holding.
        observation_tick: int64[N], tick of the observation behind that chunk; -1 while holding.
        is_promised: bool[N], the command repeats what an older chunk had promised.
        sent_s: float64[N], when the command was sent, seconds of the clock of the run.
        positions: indices of the action dimensions of kind `position`.
        control_hz: rate of the ticks.
    """

    ticks: NDArray[np.int64]
    values: FloatArray
    is_running: NDArray[np.bool_]
    chunk_id: NDArray[np.int64]
    observation_tick: NDArray[np.int64]
    is_promised: NDArray[np.bool_]
    sent_s: NDArray[np.float64]
    positions: tuple[int, ...]
    control_hz: float

    @property
    def path(self) -> NDArray[np.float64]:
        """float64[N, positions]: the commanded position, metres."""
        return self.values[:, list(self.positions)].astype(np.float64)

    @property
    def num_ticks(self) -> int:
        """N, held ticks included."""
        return len(self.ticks)


def command_log(trace: Sequence[TickRecord], embodiment: Embodiment) -> CommandLog:
    """Stack an executor's trace into arrays."""
    return CommandLog(
        ticks=np.array([row.tick for row in trace], dtype=np.int64),
        values=np.array([row.values for row in trace], dtype=np.float32).reshape(len(trace), embodiment.action_dim),
        is_running=np.array([row.state == "run" for row in trace], dtype=np.bool_),
        chunk_id=np.array([row.chunk_id for row in trace], dtype=np.int64),
        observation_tick=np.array([row.observation_tick for row in trace], dtype=np.int64),
        is_promised=np.array([row.is_promised for row in trace], dtype=np.bool_),
        sent_s=np.array([row.sent_s for row in trace], dtype=np.float64),
        positions=tuple(j for j, d in enumerate(embodiment.actions) if d.kind == "position"),
        control_hz=embodiment.control_hz,
    )


def startup_ticks(log: CommandLog) -> int:
    """Ticks before the first command of a plan: nothing could run yet. N if none ever ran."""
    running = np.flatnonzero(log.is_running)
    return int(running[0]) if running.size else log.num_ticks


def idle_share(logs: Sequence[CommandLog]) -> float | None:
    """Share of ticks without a command of a plan, counted from the first planned command of each episode.

        idle = sum(held ticks after the start) / sum(ticks after the start)

    A synchronous robot waits r ticks after each s: r / (s + r). A robot that never gets a plan idles 100 %. None without
    any tick. The wait before the very first plan is `startup_ticks`: no mode can avoid it.
    """
    num_held = num_total = 0
    for log in logs:
        start = startup_ticks(log)
        if start == log.num_ticks:
            start = 0
        num_held += int((~log.is_running[start:]).sum())
        num_total += log.num_ticks - start
    return num_held / num_total if num_total else None


def cycle_idle_share(logs: Sequence[CommandLog]) -> float | None:
    """`idle_share` over whole cycles only: from the first planned command of an episode up to its last hand-over.

    Episodes end in the middle of a cycle, and short ones would hide the exact ratio r / (s + r). None without a cycle.
    """
    num_held = num_total = 0
    for log in logs:
        seam = seams(log)
        if seam.size:
            span = slice(startup_ticks(log), int(seam[-1]))
            num_held += int((~log.is_running[span]).sum())
            num_total += span.stop - span.start
    return num_held / num_total if num_total else None


def seams(log: CommandLog) -> NDArray[np.int64]:
    """Indices k at which a new chunk takes over: c(k) comes from another chunk than the last planned command before it.

    The first chunk of an episode takes over from nothing and is not a seam.
    """
    running = np.flatnonzero(log.is_running)
    changed = log.chunk_id[running[1:]] != log.chunk_id[running[:-1]]
    return running[1:][changed]


def seam_ratios(log: CommandLog) -> NDArray[np.float64]:
    """How much larger than usual the step at a hand-over is, one number per seam; positions only.

        J(k) = max(|c(k) - c(k-1)|, |c(k') - c(k'-1)|) / median over all other steps j of |c(j) - c(j-1)|

    k is the tick of the hand-over; k' the first tick at which the new chunk sends something that was not promised
    before (k' = k without a prefix). A jump just behind the prefix is as bad as one at the hand-over, and counts. Other
    steps are those inside one chunk. Empty if there is no seam, or if the robot stands still (median 0) so that no step
    is usual. c(k-1) is what was really sent, the held command of a waiting robot included.
    """
    steps = np.linalg.norm(np.diff(log.path, axis=0), axis=1)
    seam = seams(log)
    decided = np.array([_first_decided(log, int(k)) for k in seam], dtype=np.int64)
    inside = log.is_running[1:] & log.is_running[:-1] & (log.chunk_id[1:] == log.chunk_id[:-1])
    inside[decided - 1] = False
    usual = float(np.median(steps[inside])) if inside.any() else 0.0
    if seam.size == 0 or usual <= 0.0:
        return np.empty(0)
    return np.maximum(steps[seam - 1], steps[decided - 1]) / usual


def _first_decided(log: CommandLog, k: int) -> int:
    """The first index from k on at which the chunk of c(k) is beyond its promised rows; k if it never gets there."""
    own = (log.chunk_id[k:] == log.chunk_id[k]) & ~log.is_promised[k:]
    return k + int(own.argmax()) if own.any() else k


def jerk_rms(log: CommandLog) -> float | None:
    """Root mean square of the third difference of the commanded positions over period^3, m/s^3; None below 4 ticks."""
    if log.num_ticks < 4:
        return None
    jerk = np.diff(log.path, n=3, axis=0) * log.control_hz**3
    return float(np.sqrt(np.mean(np.sum(jerk**2, axis=1))))


def observation_age_ticks(log: CommandLog) -> NDArray[np.int64]:
    """How old the observation behind each planned command was, ticks: n - observation_tick. Worst case d + s."""
    return (log.ticks - log.observation_tick)[log.is_running]


def period_errors_ms(log: CommandLog) -> NDArray[np.float64]:
    """Control-period jitter |g(k) - period| with g(k) = t(k) - t(k-1) of the times at which commands were sent, ms."""
    return np.abs(np.diff(log.sent_s) - 1.0 / log.control_hz) * 1e3


def phase_errors_ms(log: CommandLog) -> NDArray[np.float64]:
    """Lateness against the absolute schedule, t(k) - (t(0) + k * period), ms: it grows if a loop drifts."""
    k = np.arange(log.num_ticks)
    return (log.sent_s - log.sent_s[:1] - k / log.control_hz) * 1e3


def parting_tick(log: CommandLog, twin: CommandLog, threshold_m: float = 0.002) -> int | None:
    """The first tick at which the commanded paths of two runs are more than `threshold_m` apart; None if they never are."""
    n = min(log.num_ticks, twin.num_ticks)
    parted = np.flatnonzero(np.linalg.norm(log.path[:n] - twin.path[:n], axis=1) > threshold_m)
    return int(log.ticks[parted[0]]) if parted.size else None


def reaction_ticks(log: CommandLog, twin: CommandLog, perturbation_tick: int, threshold_m: float = 0.002) -> int | None:
    """Ticks from a perturbation until the commanded path leaves that of the undisturbed twin run (same seed, no event).

        min { n >= perturbation_tick : |c(n) - c_twin(n)| > threshold } - perturbation_tick

    The twin removes the guess of what the robot would have done. None if the paths never part while both last, or if there
    was no perturbation (negative tick).

    Raises:
        ValueError: the paths part before the perturbation: then the runs are no twins, and the number means nothing.
    """
    if perturbation_tick < 0:
        return None
    first = parting_tick(log, twin, threshold_m)
    if first is not None and first < perturbation_tick:
        raise ValueError(
            f"not a twin run: the commanded paths part by more than {threshold_m} m at tick {first}, before the "
            f"perturbation at tick {perturbation_tick}"
        )
    return None if first is None else first - perturbation_tick


def reaction_law(
    delay: int, execute_horizon: int, num_promised: int = 0, is_waiting: bool = False
) -> NDArray[np.float64]:
    """What `reaction_ticks` must be distributed like: float64[first + cycle], the probability of 0, 1, ... ticks.

    Requests are made every `cycle` ticks; the first one at or after the event sees it. An event that has nothing to do
    with the cycle waits 0 .. cycle - 1 ticks for it, each equally likely; the first command that can differ follows after
    `first` ticks more. So the law is uniform, U(first, first + cycle) in whole ticks:

        reaction in {first, ..., first + cycle - 1},  first = max(r, p),  cycle = max(s, r), or s + r for one who waits

        ticks    E  .  .  Q  .  .  .  .  C          E event, Q next request, C first command that Q's chunk decides
                 |waiting |     first    |

    Its mean is first + (cycle - 1) / 2. It holds for a policy that answers every visible change at once, with a constant
    delay, and for an event that the observation of its own tick shows.

    Args:
        delay: r, ticks from an observation to the arrival of its chunk. execute_horizon: s.
        num_promised: p, rows that a new chunk has to repeat; the estimator promises min(r + 1, s, H - s), or 0 without a
            delay, and mode `naive` never promises. is_waiting: mode `sync`.

    Raises:
        ValueError: a negative number of ticks, or s below 1.
    """
    if delay < 0 or num_promised < 0 or execute_horizon < 1:
        raise ValueError(
            f"need delay and num_promised of 0 or more and execute_horizon of 1 or more ticks; got {delay}, "
            f"{num_promised}, {execute_horizon}"
        )
    first = max(delay, num_promised)
    cycle = execute_horizon + delay if is_waiting else max(execute_horizon, delay)
    return np.concatenate([np.zeros(first), np.full(cycle, 1.0 / cycle)])


def law_distance(sample: Sequence[int], law: NDArray[np.float64]) -> float:
    """How far a sample of ticks is from a law, 0..1: the Kolmogorov-Smirnov statistic max over k of |F_n(k) - F(k)|.

    For n numbers that do follow the law it exceeds 1.36 / sqrt(n) in at most 5 % of all samples (fewer, since ticks tie).

    Args:
        sample: ticks, 0 or more. law: float64[K], the probability of 0 .. K - 1 ticks; sums to 1.

    Raises:
        ValueError: no sample, a negative one, or no law.
    """
    ticks = np.asarray(sample, dtype=np.int64)
    if ticks.size == 0 or ticks.min() < 0 or not np.isclose(law.sum(), 1.0):
        raise ValueError(
            f"need ticks of 0 or more and probabilities that sum to 1; got {ticks[:8].tolist()} and {law.sum():g}"
        )
    length = max(len(law), int(ticks.max()) + 1)
    counts = np.bincount(ticks, minlength=length)
    expected = np.concatenate([law, np.zeros(length - len(law))])
    return float(np.abs(np.cumsum(counts) / ticks.size - np.cumsum(expected)).max())


def copy_share(new: FloatArray, old: FloatArray, right: FloatArray) -> float | None:
    """How much of a stale plan a policy copies where it should have changed its mind.

        <new - right, old - right> / <old - right, old - right>

    0: it does what it sees is right; 1: it goes on with the stale plan; between: a mixture of both. Errors in other
    directions do not count, and neither does a policy that is merely bad. Over many windows numerator and denominator are
    summed, so that windows in which old and right hardly differ, and which tell nothing, hardly count.

    Args:
        new: what the policy decided, float[..., A], rows behind the promised ones only. old: how the plan that made the
            promise goes on in the same ticks. right: what is right in view of the newest observation. All in the same
            units and frame; give position columns only, or numbers of comparable size.

    Returns:
        None where old and right agree everywhere: there is nothing to copy wrongly.

    Raises:
        ValueError: different shapes.
    """
    if not new.shape == old.shape == right.shape:
        raise ValueError(
            f"new, old and right must have one shape; got {list(new.shape)}, {list(old.shape)}, {list(right.shape)}"
        )
    stale, error = old.astype(np.float64) - right, new.astype(np.float64) - right
    size = float(np.sum(stale * stale))
    return float(np.sum(error * stale)) / size if size > 0.0 else None


def plan_disagreement(old_actions: FloatArray, new_actions: FloatArray, shift: int, prefix_length: int) -> float | None:
    """How far two successive plans differ on the ticks that both cover, mean distance in the units of the columns given.

        mean over i >= prefix_length of |old[i + shift] - new[i]|,  shift = start_tick(new) - start_tick(old)

    Pass position columns only. None where they do not overlap beyond the prefix.
    """
    overlap = min(len(old_actions) - shift, len(new_actions))
    if overlap <= prefix_length or shift < 0:
        return None
    difference = old_actions[shift + prefix_length : shift + overlap] - new_actions[prefix_length:overlap]
    return float(np.linalg.norm(difference.astype(np.float64), axis=1).mean())


def request_counts(requests: Sequence[RequestRecord]) -> dict[str, int]:
    """How the requests of an episode ended. `late`: a promise was broken, the reply came after the last promised row."""
    outcomes = [request.outcome for request in requests]
    return {"requests": len(outcomes), "late": outcomes.count("late"), "rejected": outcomes.count("rejected")}


def episode_metrics(log: CommandLog, requests: Sequence[RequestRecord]) -> dict[str, float | None]:
    """The numbers of one episode for its result row."""
    ratios = seam_ratios(log)
    ages = observation_age_ticks(log)
    return {
        "idle_share": idle_share([log]),
        "startup_ticks": startup_ticks(log),
        "num_seams": len(seams(log)),
        "seam_ratio_max": float(ratios.max()) if ratios.size else None,
        "jerk_rms_m_s3": jerk_rms(log),
        "observation_age_max_ticks": int(ages.max()) if ages.size else None,
        **request_counts(requests),
    }
