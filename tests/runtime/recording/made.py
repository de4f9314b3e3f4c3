"""Records made by hand: what a test changes stands in its own words, everything else here."""

from pathlib import Path
from typing import Any

import numpy as np

from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.instruments.tagged import make_metadata
from cerebella.runtime.recording.header import Header
from cerebella.runtime.recording.recorder import Recorder
from cerebella.runtime.trace import TickRecord

ZEROS = np.zeros(4, dtype=np.float32)
SETTINGS = {"initial": 1, "window": 100, "quantile": 0.95, "margin": 1, "num_warmup": 1, "samples": []}


def make_header(**changes: Any) -> Header:
    return Header(
        **{"metadata": make_metadata(8, 4), "config": ExecutorConfig("prefix", 4), "delay_estimator": SETTINGS}
        | changes
    )


def make_tick(tick: int, **changes: Any) -> TickRecord:
    fields = {"state": "run", "values": ZEROS, "raw": ZEROS, "chunk_id": 0, "row": 0, "observation_tick": 0}
    return TickRecord(
        **{"tick": tick, "sent_s": tick / 30, "control_tick": tick, "prompt": "count", **fields, **changes}
    )


def write_ticks(path: Path, *records: TickRecord) -> Path:
    with Recorder(path, make_header()) as recorder:
        for record in records:
            recorder.tick(record)
    return path
