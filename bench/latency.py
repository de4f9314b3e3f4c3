"""How long one inference takes: peer, readable model and engine, with the same weights, side by side in one process.

    .venv/bin/python bench/latency.py                                    under two minutes on two slow cores
    .venv/bin/python bench/latency.py --preset tiny --geometry 2x224 --compile all --compile-peer

Random weights (seed 0). On a CPU: one thread, CPU time, interleaved rounds. A geometry is VIEWSxSIDE or VIEWSxWIDTHxHEIGHT,
with +TOKENS of text. Prints a table per case, then one JSON object as the last line.
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from measure import contenders
from measure.ceilings import measure_ceilings
from measure.command import run
from measure.request import Geometry, make_request
from measure.roofline import Ceilings, phases
from measure.rows import NULL, Row, race, reference_actions
from measure.table import table
from measure.timing import Rounds
from measure.weights import random_model

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.result import check_can_write
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA

SCHEMA_VERSION = 1
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SEED = 0


@dataclass(frozen=True)
class Options:
    """What to measure."""

    preset: tuple[str, ...] = ("nano", "tiny")
    """sizes of the model"""
    geometry: tuple[str, ...] = ("2x128", "2x224")
    """images and text of a request, each for every preset"""
    token_px: int | None = None
    """side of an image token in pixels; 32 as in the released checkpoints, None as in the preset"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of weights and arithmetic"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where everything runs"""
    rounds: int = 9
    """interleaved rounds of one case, 3 or more"""
    budget_s: float = 15.0
    """wall seconds after which a case starts no further round; three are run in any case"""
    compile: Literal["none", "first", "all"] = "first"
    """for which cases to run the engine compiled, too, without graph breaks"""
    how: Literal["layers", "whole"] = "layers"
    """compile one layer of each kind, or each part in one piece"""
    compile_peer: bool = False
    """wherever the engine is compiled, also run the peer under `torch.compile`"""
    json: Path | None = None
    """write the JSON object to this file, too"""


def check(options: Options) -> None:
    """Everything that can be known before a model is built.

    Raises:
        ValueError: unknown preset, geometry that does not fit it, too few rounds, no such device, a file that cannot be
            written, or nothing to measure.
    """
    for name in ("preset", "geometry"):
        if not getattr(options, name):
            raise ValueError(f"--{name} needs at least one value; got none, so there is nothing to measure")
    for config in [_config(name, options.token_px) for name in options.preset]:
        for geometry in map(Geometry.parse, options.geometry):
            geometry.num_tokens(config)
    _rounds(options)
    if options.compile_peer and options.compile == "none":
        raise ValueError(
            "--compile-peer compiles the peer where the engine is compiled; it needs --compile first or all"
        )
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; the choice that is left is cpu")
    if options.json is not None:
        check_can_write(options.json)


def main(options: Options) -> None:
    """Measure every preset at every geometry."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    dtype, device = DTYPES[options.dtype], torch.device(options.device)
    ceilings = measure_ceilings(dtype, device)
    print(
        f"{options.dtype} on {device}, {torch.get_num_threads()} thread; measured ceilings: matrix product "
        f"{ceilings.flops_per_s / 1e9:.0f} GFLOP/s, copy {ceilings.bytes_per_s / 1e9:.1f} GB/s"
    )
    cases = []
    for name in options.preset:
        model = random_model(_config(name, options.token_px), dtype, device, SEED)
        for geometry in map(Geometry.parse, options.geometry):
            compiles = options.compile == "all" or (options.compile == "first" and not cases)
            cases.append(_case(model, geometry, ceilings, options, compiles))
    report = {
        "bench": "latency",
        "schema_version": SCHEMA_VERSION,
        "dtype": options.dtype,
        "device": str(device),
        "token_px": options.token_px,
        "num_threads": torch.get_num_threads(),
        "ceilings": asdict(ceilings),
        "cases": cases,
        "run": run_fingerprint(SEED),
    }
    text = json.dumps(report)
    if options.json is not None:
        options.json.write_text(text + "\n")
        print(f"wrote {options.json}")
    print(text)


def _config(name: str, token_px: int | None) -> ModelConfig:
    """A preset, with image tokens of another size on request; the sizes of all layers but the patch embedding stay."""
    config = preset(name)
    vision = config.brain["vision_config"]
    if token_px is None:
        return config
    factor = vision["spatial_merge_size"]
    if token_px < factor or token_px % factor:
        raise ValueError(f"--token-px must be a positive multiple of {factor} px for {name!r}; got {token_px}")
    vision = {**vision, "patch_size": token_px // factor}
    return replace(config, brain={**config.brain, "vision_config": vision})


def _rounds(options: Options) -> Rounds:
    return Rounds(options.rounds, budget_s=options.budget_s)


def _case(model: VLA, geometry: Geometry, ceilings: Ceilings, options: Options, compiles: bool) -> dict[str, Any]:
    dtype, device = DTYPES[options.dtype], torch.device(options.device)
    request = make_request(model.config, geometry, dtype=dtype)
    expected = reference_actions(model, request)
    field = [*contenders.usual(model), contenders.engine(model)]
    if compiles and options.compile_peer:
        field.append(contenders.compiled_peer(model))
    if compiles:
        field.append(contenders.engine(model, options.how, use_graphs=device.type == "cuda"))
    case_phases = phases(model.config, geometry, bytes_per_weight=dtype.itemsize)
    rows = race(field, request, expected, model.config, ceilings, _rounds(options))
    name = f"{model.config.name} {geometry}, {geometry.num_tokens(model.config)} tokens"
    print("\n" + table(name, rows), flush=True)
    _print_notes(rows, options, compiles)
    return {
        "preset": model.config.name,
        "geometry": str(geometry),
        "num_tokens": geometry.num_tokens(model.config),
        "phases": [asdict(phase) for phase in case_phases],
        "rows": [row.to_json() for row in rows],
    }


def _print_notes(rows: list[Row], options: Options, compiles: bool) -> None:
    null = next(row.ratio for row in rows if row.name == NULL)
    print(f"null check: the peer against itself {null['median']:.2f} [{null['low']:.2f}, {null['high']:.2f}]")
    if not compiles:
        print("not measured here: the engine compiled (--compile all)")
    if not (compiles and options.compile_peer):
        print("not measured here: the peer compiled (--compile-peer)")


if __name__ == "__main__":
    sys.exit(run(Options, check, main, __doc__))
