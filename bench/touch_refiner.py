"""How often a touch refiner can answer on one thread: wrist increments per CPU-second, for every encoder.

One answer is what a refinement asks for at each step: the embedding of the grasp for the confidence check, then the increment,
from counts to a rigid transform. Weights are random, the geometry is the default. Beside it the same graph in ONNX Runtime, if
that is installed, with the largest difference between both. Rounds are interleaved. Prints one JSON object as the last line; exit
code 1 if the median of an encoder is below the gate.
"""

import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measure.timing import Rounds, interleave

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.models.touch_refiner import EncoderName, TouchRefiner, TouchRefinerConfig, increments
from cerebella.policies.touch_embedding import NUM_CENTRES, TouchEmbedding
from cerebella.policies.touch_export import INPUT_NAMES, export_onnx
from cerebella.policies.touch_policy import TouchPolicy

GATE_HZ = 100.0
ENCODERS: tuple[EncoderName, ...] = ("vit", "mlp", "cnn")
NUM_ANSWERS, ROUNDS = 20, Rounds(9)
CAN_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def main() -> None:
    """Time all encoders, print the table and the JSON."""
    torch.set_num_threads(1)
    policies = {encoder: _policy(encoder) for encoder in ENCODERS}
    grasps = _grasps(NUM_ANSWERS)
    runs: dict[str, Callable[[], object]] = {name: _asks(policy, grasps) for name, policy in policies.items()}
    difference = None
    if CAN_ONNX:
        runs["vit in ONNX Runtime"], difference = _onnx(policies["vit"], grasps)
    timings = interleave(runs, ROUNDS)
    hz = {name: NUM_ANSWERS / timing.median_s for name, timing in timings.items()}
    slowest = {name: NUM_ANSWERS / max(timing.primary_s) for name, timing in timings.items()}
    for name, value in hz.items():
        print(
            f"{name:<20} {value:>7.0f} answers per CPU-second, {1e3 / value:.2f} ms each; slowest round {slowest[name]:.0f}"
        )
    passes = all(hz[encoder] >= GATE_HZ for encoder in ENCODERS)
    report: dict[str, Any] = {
        "bench": "touch_refiner",
        "gate_hz": GATE_HZ,
        "passes": passes,
        "answers_per_cpu_s": {name: round(value, 1) for name, value in hz.items()},
        "slowest_round": {name: round(value, 1) for name, value in slowest.items()},
        "num_parameters": {
            name: sum(p.numel() for p in policy.model.parameters()) for name, policy in policies.items()
        },
        "onnx_largest_difference": difference,
        "run": run_fingerprint(0),
    }
    print(json.dumps(report))
    if not passes:
        sys.exit(1)


Grasps = list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def _policy(encoder: EncoderName) -> TouchPolicy:
    torch.manual_seed(0)
    model = TouchRefiner(TouchRefinerConfig(encoder=encoder)).eval()
    for head in (model.rotation, model.translation):
        torch.nn.init.normal_(head.get_parameter("2.weight"), std=0.1)  # small at first, which would hide a difference
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 256, (8 * NUM_CENTRES, 5, 11, 9), dtype=np.uint8)
    joints = rng.uniform(0, 1, (len(counts), 11)).astype(np.float32)
    statistics = np.zeros(11, dtype=np.float32), np.ones(11, dtype=np.float32)
    return TouchPolicy(model, TouchEmbedding.measure(counts, joints, *statistics), {"distance_limit": 10.0})


def _grasps(num: int) -> Grasps:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 256, (num, 2, 5, 11, 9), dtype=np.uint8)
    joints = rng.uniform(0, 1, (num, 2, 11)).astype(np.float32)
    return [(counts[i, 0], joints[i, 0], counts[i, 1], joints[i, 1]) for i in range(num)]


def _asks(policy: TouchPolicy, grasps: Grasps) -> Callable[[], object]:
    def run() -> None:
        for grasp in grasps:
            policy.embedding(*grasp[:2])
            policy.predict(*grasp)

    return run


def _onnx(policy: TouchPolicy, grasps: Grasps) -> tuple[Callable[[], object], float]:
    """The increment alone, in the other runtime, and how far its transforms are from ours."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "refiner.onnx"
        export_onnx(policy, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(grasp: tuple[np.ndarray, ...]) -> np.ndarray:
        (numbers,) = session.run(None, {name: x[None] for name, x in zip(INPUT_NAMES, grasp, strict=True)})
        return increments(numbers)[0]

    difference = max(float(np.abs(answer(grasp) - policy.predict(*grasp)).max()) for grasp in grasps)
    return lambda: [answer(grasp) for grasp in grasps], difference


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
