"""What a run leaves behind: a dictionary, and the same in words."""

from collections.abc import Sequence
from typing import Any

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.live.config import RunConfig
from cerebella.live.episode import EpisodeReport
from cerebella.live.session import Session

SCHEMA_VERSION = 1


def make_report(config: RunConfig, session: Session, episodes: Sequence[EpisodeReport]) -> dict[str, Any]:
    """Plain JSON types."""
    metadata, executor = session.metadata, session.executor_config
    return {
        "schema_version": SCHEMA_VERSION,
        "target": config.target,
        "policy": {"path": config.policy, "policy_id": metadata.policy_id},
        "run": run_fingerprint(config.seed),
        "conditions": {
            "mode": executor.mode,
            "clock": "wall",
            "execute_horizon": executor.execute_horizon,
            "horizon": metadata.horizon,
            "policy_hz": metadata.embodiment.policy_hz,
            "control_hz": metadata.embodiment.control_hz,
            "latency_ms": config.latency_ms,
        },
        "preflight": session.checked,
        "delay_estimate": session.estimator.estimate(),
        "episodes": [episode.to_dict() for episode in episodes],
    }


def in_words(report: dict[str, Any]) -> str:
    """The report for a terminal: a block per episode."""
    blocks: list[str] = []
    for number, episode in enumerate(report["episodes"]):
        counters, pacing, jitter = episode["counters"], episode["pacing"], episode["jitter_ms"]
        outcomes = ", ".join(f"{count} {name}" for name, count in counters.get("outcomes", {}).items()) or "none"
        lines = [
            f"episode {number + 1} (seed {episode['seed']}): {episode['reason'] or 'ended'}"
            f"{' (success)' if episode['is_success'] else ''}, {episode['prompt']!r}",
            f"  {counters.get('num_ticks', 0)} commands, {counters.get('num_holds', 0)} of them at rest; "
            f"{counters.get('num_stops', 0)} stops; {counters.get('num_limited', 0)} changed by limits",
            f"  {counters.get('num_requests', 0)} inferences: {outcomes}",
            f"  jitter of the control period: median {jitter['p50']:.2f} ms, p99 {jitter['p99']:.2f} ms, "
            f"worst {jitter['max']:.2f} ms",
        ]
        if pacing:
            lines.append(
                f"  latest command {1e3 * pacing['max_lateness_s']:.1f} ms after its time, "
                f"{pacing['num_skipped']:.0f} periods skipped"
            )
        if episode["recording_failure"]:
            lines.append(f"  recording: {episode['recording_failure']}")
        blocks.append("\n".join(lines))
    return "\n".join(blocks)
