"""A recording in numbers."""

from collections import Counter
from typing import Any

import numpy as np

from cerebella.runtime.recording.reader import Recording


def tally(recording: Recording) -> dict[str, int]:
    """How often everything happened: `commands`, `commands: STATE`, `requests: OUTCOME`, `rejected: REASON`,
    `event: NAME`, `note: NAME`."""
    ticks, requests = recording.ticks, recording.requests
    counts: Counter[str] = Counter()
    counts["observations"] = len(recording.seen)
    counts["commands"] = len(ticks)
    counts.update(f"commands: {record.state}" for record in ticks)
    counts["commands: limited"] = sum(record.values.tobytes() != record.raw.tobytes() for record in ticks)
    counts["requests"] = len(requests)
    counts.update(f"requests: {record.outcome}" for record in requests)
    counts["requests: bridged"] = sum(record.is_bridged for record in requests)
    counts.update(f"rejected: {r.reason.split(':')[0]}" for r in requests if r.outcome == "rejected")
    counts.update(f"event: {event.name}" for event in recording.events)
    counts.update(f"note: {note.name}" for note in recording.notes)
    return dict(counts)


def describe_recording(recording: Recording) -> dict[str, Any]:
    """What a person wants to know first; plain JSON values."""
    header, ticks = recording.header, recording.ticks
    embodiment = header.metadata.embodiment
    waited = [r.num_ticks_waited for r in recording.requests if r.num_ticks_waited >= 0]
    return {
        "file": str(recording.path),
        "is_finished": recording.is_finished,
        "end_reason": recording.end_reason,
        "num_lost_records": recording.num_lost_records,
        "num_dropped_pictures": recording.num_dropped_pictures,
        "num_unread_bytes": recording.num_unread_bytes,
        "started_utc": header.started_utc,
        "policy": header.metadata.policy_id,
        "robot": embodiment.name,
        "mode": header.config.mode,
        "horizon": header.metadata.horizon,
        "execute_horizon": header.config.execute_horizon,
        "policy_hz": embodiment.policy_hz,
        "control_hz": embodiment.control_hz,
        "duration_s": ticks[-1].sent_s - ticks[0].sent_s if ticks else 0.0,
        "prompts": list(dict.fromkeys(record.prompt for record in ticks)),
        "cameras": sorted({camera.view for seen in recording.seen for camera in seen.cameras}),
        "delay_ticks": {f"p{q}": int(np.percentile(waited, q, method="higher")) for q in (50, 95, 100)}
        if waited
        else {},
        "counts": tally(recording),
        "versions": dict(header.versions),
        "run": dict(header.run),
    }
