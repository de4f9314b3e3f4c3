"""The released geometry, 4.7 billion random bfloat16 weights: built, one chunk sampled, on a CPU; seconds and peak memory.

    .venv/bin/python bench/full_size.py --geometry 2x224          takes about 10 GB of memory, and a minute

The readable model and the engine run one after the other, each in a process of its own, because peak memory belongs to a
process. With less than 12 GB free it says so and measures nothing. The last line is one JSON object.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from measure.command import run
from measure.request import Geometry, make_request
from measure.roofline import phases
from measure.rows import Model
from measure.weights import random_model

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.policies.engine import Engine

NEEDED_GB = 12.0
LIMIT_GB = 10.5
SCHEMA_VERSION = 1
WHO: tuple[Literal["readable", "engine"], ...] = ("readable", "engine")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    preset: str = "xr0"
    """size of the model"""
    geometry: str = "2x224"
    """images and text of the request"""
    passes: int = 1
    """inferences, 1 or more; the first one also meets cold memory, the last one is reported"""
    only: Literal["readable", "engine"] | None = None
    """measure this one in this process and print its figures (used by the script itself)"""


def check(options: Options) -> None:
    """Everything that can be known before a model is built.

    Raises:
        ValueError: unknown preset, geometry that does not fit it, or no pass.
    """
    Geometry.parse(options.geometry).num_tokens(preset(options.preset))
    if options.passes < 1:
        raise ValueError(f"--passes must be 1 or more; got {options.passes}")


def main(options: Options) -> None:
    """Measure both, each in a fresh process; or one, here."""
    if options.only is not None:
        print(json.dumps(_measure(options)))
        return
    report: dict[str, Any] = {"bench": "full_size", "schema_version": SCHEMA_VERSION, "limit_gb": LIMIT_GB}
    available_gb = _available_gb()
    if options.preset == "xr0" and available_gb < NEEDED_GB:
        print(f"not measured: {available_gb:.1f} GB of memory are free, the full-size model needs {NEEDED_GB:.0f} GB")
        print(json.dumps(report | {"measured": False, "available_gb": available_gb, "run": run_fingerprint(0)}))
        return
    found = {who: _in_fresh_process(options, who) for who in WHO}
    actions = [torch.tensor(found[who].pop("actions")) for who in WHO]
    cosine = float(torch.nn.functional.cosine_similarity(*actions, dim=0))
    for who, figures in found.items():
        print(
            f"{who:<9} built in {figures['build_s']:.1f} s; one chunk in {figures['cpu_s'][-1]:.2f} CPU-s "
            f"({figures['gflops_per_s']:.0f} GFLOP/s); peak memory {figures['peak_gb']:.2f} GB"
        )
    print(f"engine against readable model: cosine {cosine:.6f}, max abs {(actions[0] - actions[1]).abs().max():.2e}")
    report |= {
        "measured": True,
        "preset": options.preset,
        "geometry": options.geometry,
        "dtype": "bfloat16",
        "num_threads": 1,
        "cosine": cosine,
        "within_limit": all(figures["peak_gb"] <= LIMIT_GB for figures in found.values()),
        **found,
        "run": run_fingerprint(0),
    }
    print(json.dumps(report))


def _in_fresh_process(options: Options, who: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--preset", options.preset, "--geometry", options.geometry]
    command += ["--passes", str(options.passes), "--only", who]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@torch.inference_mode()
def _measure(options: Options) -> dict[str, Any]:
    torch.set_num_threads(1)
    config, geometry = preset(options.preset), Geometry.parse(options.geometry)
    start_s = time.perf_counter()
    vla = random_model(config, torch.bfloat16)
    model = _one_of(vla, options)
    build_s = time.perf_counter() - start_s
    request = make_request(config, geometry, dtype=torch.bfloat16)
    batch = request.batch
    cpu_s, wall_s, actions = [], [], request.noise
    for _ in range(options.passes):
        start_cpu_s, start_s = time.process_time(), time.perf_counter()
        context = model.encode(batch)
        actions = model.sample(
            context, batch.state, request.noise, batch.action_mask, batch.action_prefix, batch.prefix_length
        )
        cpu_s.append(round(time.process_time() - start_cpu_s, 3))
        wall_s.append(round(time.perf_counter() - start_s, 3))
        del context
    if not bool(actions.isfinite().all()):
        raise ValueError("the sampled actions are not finite; a buffer was not rebuilt")
    flops = sum(phase.flops for phase in phases(config, geometry))
    return {
        "num_parameters": sum(parameter.numel() for parameter in vla.parameters()),
        "build_s": round(build_s, 2),
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "gflops_per_s": round(flops / cpu_s[-1] / 1e9, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "actions": actions.float().flatten().tolist(),
    }


def _one_of(vla: VLA, options: Options) -> Model:
    return vla if options.only == "readable" else Engine(vla)


def _available_gb() -> float:
    """Memory that can be had without swapping, as Linux estimates it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return round(int(line.split()[1]) * 1024 / 1e9, 1)
    raise ValueError("/proc/meminfo does not say MemAvailable; this script runs on Linux")


if __name__ == "__main__":
    sys.exit(run(Options, check, main, __doc__))
