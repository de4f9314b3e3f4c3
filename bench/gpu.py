"""The whole measuring plan for one GPU in under ten minutes, partial results first: one JSON line per finding.

    .venv/bin/python bench/gpu.py --out results.jsonl     on a GPU: the released geometry in bfloat16
    .venv/bin/python bench/gpu.py                         without one: the same steps at the smallest size, half a minute

Parts (see `measure/parts.py`): a latency, b precision and flow steps, c serving, d training, e latency again. Every part has
a time budget; what it has found by then is kept, and a record says that it was cut off. The last line printed is one JSON
object.
"""

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from measure import parts
from measure.command import run
from measure.parts import Ready, Records, Scale

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.result import check_can_write

SCHEMA_VERSION = 1
PARTS: dict[str, tuple[tuple[Callable[[Ready], Records], ...], float]] = {
    "a": ((parts.latency, parts.peer_compiled), 210.0),
    "b": ((parts.precision,), 120.0),
    "c": ((parts.serving,), 90.0),
    "d": ((parts.training,), 90.0),
    "e": ((parts.repeat,), 60.0),
}
"""Part -> (what it does, seconds after which it starts nothing new)."""

ON_A_GPU = Scale(
    preset="xr0",
    train=(("small", True, 64), ("xr0", False, 16), ("xr0", True, 8)),
    geometries=("2x224", "2x256", "3x320x256+85"),
    batch_sizes=(1, 2, 4, 8, 16),
    dtype=torch.bfloat16,
    device=torch.device("cuda"),
    num_rounds=100,
    num_warm_ups=10,
)
ON_A_CPU = Scale(
    preset="micro",
    train=(("micro", True, 4), ("micro", False, 4)),
    geometries=("2x64", "2x96", "3x96x64+85"),
    batch_sizes=(1, 2, 4),
    dtype=torch.float32,
    device=torch.device("cpu"),
    num_rounds=3,
    num_warm_ups=1,
)


@dataclass(frozen=True)
class Options:
    """What to run."""

    parts: str = "abcde"
    """letters of the parts, run in the order given"""
    out: Path | None = None
    """a file of JSON lines, written after every record; what it held before is lost"""
    compile_peer: bool = False
    """also compile the peer, in part a; on a GPU it takes a minute or two of that part"""


def check(options: Options) -> None:
    """Everything that can be known before a model is built.

    Raises:
        ValueError: unknown, repeated or no parts, a peer to compile without part a, or a file that cannot be written.
    """
    if unknown := sorted(set(options.parts) - set(PARTS)):
        raise ValueError(f"unknown parts: {', '.join(unknown)}; known: {', '.join(PARTS)}")
    if not options.parts or len(set(options.parts)) < len(options.parts):
        raise ValueError(f"--parts needs one letter or more, each once, of {', '.join(PARTS)}; got {options.parts!r}")
    if options.compile_peer and "a" not in options.parts:
        raise ValueError(f"--compile-peer belongs to part a; --parts is {options.parts!r}")
    if options.out is not None:
        check_can_write(options.out)


def main(options: Options) -> None:
    """Run the parts; a part that fails ends the run, with everything before it on disk."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    scale = ON_A_GPU if torch.cuda.is_available() else ON_A_CPU
    if options.out is not None:
        options.out.write_text("")
    start_s = time.perf_counter()
    ready = parts.make_ready(scale)
    _write(options, {"part": "start", "run": run_fingerprint(0), "ceilings": asdict(ready.ceilings), **_card()})
    counts = {name: _run_part(name, ready, options) for name in options.parts}
    _write(options, {"part": "end", **_card()})
    if not scale.is_gpu:
        print("\nno GPU here: these figures say that the script runs, not how fast a GPU is")
    report = {
        "bench": "gpu",
        "schema_version": SCHEMA_VERSION,
        "measured_on_gpu": scale.is_gpu,
        "preset": scale.preset,
        "records": counts,
        "seconds": round(time.perf_counter() - start_s, 1),
        "out": None if options.out is None else str(options.out),
        "ceilings": asdict(ready.ceilings),
        "run": run_fingerprint(0),
    }
    print(json.dumps(report))


def _run_part(name: str, ready: Ready, options: Options) -> int:
    steps, budget_s = PARTS[name]
    start_s, count = time.perf_counter(), 0
    for step in steps:
        if step is parts.peer_compiled and not options.compile_peer:
            continue
        for record in step(ready):
            _write(options, {"part": name, **record})
            count += 1
            if time.perf_counter() - start_s > budget_s:
                _write(options, {"part": name, "cut_off_after_s": budget_s})
                return count
    print(f"part {name}: {count} records in {time.perf_counter() - start_s:.0f} s", flush=True)
    return count


def _write(options: Options, record: dict[str, Any]) -> None:
    if "name" not in record:
        print(json.dumps(record), flush=True)
    if options.out is not None:
        with options.out.open("a") as file:
            file.write(json.dumps(record) + "\n")


def _card() -> dict[str, Any]:
    """Name, clocks, power and temperature of the GPU, as its driver reports them."""
    if not torch.cuda.is_available():
        return {"gpu": None}
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    if shutil.which("nvidia-smi"):
        fields = "clocks.sm,clocks.mem,power.draw,temperature.gpu"
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        found |= dict(zip(fields.split(","), done.stdout.splitlines()[0].split(", "), strict=True))
    return found


if __name__ == "__main__":
    sys.exit(run(Options, check, main, __doc__))
