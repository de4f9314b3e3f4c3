"""One training step: ours (the one that `training.loop` takes, data given) against Transformers + AdamW.

    .venv/bin/python bench/training_step.py                    under two minutes on two slow cores
    .venv/bin/python bench/training_step.py --case next_token --precision float32 --samples 32 --rounds 9

The peer is `measure/train_peer.py`: stock Qwen3-VL with its default attention, a plain diffusion transformer, AdamW as it comes,
everything in eager mode, the same type on both sides. One thread, CPU time, interleaved rounds, forward pass to updated
weights. Both start from the same weights; before the clock runs they take the same steps and their losses are compared.
Prints a table, then one JSON object as the last line.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from measure.command import run
from measure.timing import Rounds, interleave, ratio
from measure.train_cases import CASES, NUM_BATCHES, Case, Step, make_case, make_source, our_step, peer_step

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.result import check_can_write
from cerebella.models.config import ModelConfig, preset
from cerebella.training.step import Precision

SCHEMA_VERSION = 1
SEED = 0
OURS, PEER, NULL = "ours", "peer", "peer again"
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}
"""Largest difference between the two sides' losses, as a share of the loss."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    case: tuple[str, ...] = tuple(CASES)
    """next_token, flow_posttrain, pretrain_cerebellum"""
    precision: tuple[str, ...] = ("bfloat16", "float32")
    """bfloat16 is autocast on float32 weights, as the recipes train"""
    preset: str = "nano"
    """size of the model"""
    samples: int = 16
    """conversations or windows in a step"""
    rounds: int = 9
    """interleaved rounds of one case, 3 or more"""
    budget_s: float = 10.0
    """wall seconds after which a case starts no further round; three are run in any case"""
    json: Path | None = None
    """write the JSON object to this file, too"""


def check(options: Options) -> None:
    """Everything that can be known before a model is built.

    Raises:
        ValueError: unknown case, precision or preset, nothing to measure, a count below its least, or a file that cannot
            be written.
    """
    for name, chosen, known in (("case", options.case, CASES), ("precision", options.precision, TOLERANCE)):
        if not chosen:
            raise ValueError(f"--{name} needs at least one value; got none, so there is nothing to measure")
        if unknown := sorted(set(chosen) - set(known)):
            raise ValueError(f"--{name} {unknown[0]!r} is unknown; known: {', '.join(known)}")
    if options.samples < 1:
        raise ValueError(f"--samples must be 1 or more; got {options.samples}")
    preset(options.preset)
    Rounds(options.rounds)
    if options.json is not None:
        check_can_write(options.json)


def main(options: Options) -> None:
    """Race every case in every precision."""
    torch.set_num_threads(1)
    config = preset(options.preset)
    source = make_source(config)
    print(f"{options.preset}, {options.samples} samples a step, {torch.get_num_threads()} thread, CPU time")
    print(
        f"{'case':<20}{'type':<10}{'peer ms':>9}{'ours ms':>9}  {'times faster':<20}{'best':>5}"
        f"  {'null check':<20}{'losses differ by':>16}"
    )
    rows = []
    for name in options.case:
        case = make_case(name, source, options.samples)
        for precision in ("bfloat16", "float32"):
            if precision in options.precision:
                rows.append(_race(name, case, config, precision, options))
    report = {
        "bench": "training_step",
        "schema_version": SCHEMA_VERSION,
        "preset": options.preset,
        "samples": options.samples,
        "num_threads": torch.get_num_threads(),
        "rows": rows,
        "run": run_fingerprint(SEED),
    }
    text = json.dumps(report)
    if options.json is not None:
        options.json.write_text(text + "\n")
        print(f"wrote {options.json}")
    print(text)


def _race(name: str, case: Case, config: ModelConfig, precision: Precision, options: Options) -> dict[str, Any]:
    sides = {PEER: peer_step(config, case, precision), OURS: our_step(config, case, precision)}
    losses = {side: [step(number) for number in range(NUM_BATCHES)] for side, step in sides.items()}
    apart = max(abs(a - b) / abs(b) for a, b in zip(losses[OURS], losses[PEER], strict=True))
    if not apart <= TOLERANCE[precision]:
        raise RuntimeError(
            f"{name} in {precision}: the two sides do not learn the same, losses differ by {apart:.1e}, more than "
            f"{TOLERANCE[precision]:.0e}: {losses}"
        )
    runs = {side: _in_turn(step) for side, step in (*sides.items(), (NULL, sides[PEER]))}
    timings = interleave(runs, Rounds(options.rounds, warm_ups=0, budget_s=options.budget_s))
    faster = ratio(timings[PEER].cpu_s, timings[OURS].cpu_s)
    null = ratio(timings[PEER].cpu_s, timings[NULL].cpu_s)
    ms = {side: 1e3 * timing.median_s for side, timing in timings.items()}
    print(
        f"{name:<20}{precision:<10}{ms[PEER]:>9.0f}{ms[OURS]:>9.0f}  {faster!s:<20}{faster.minima:>5.2f}"
        f"  {null!s:<20}{apart:>16.1e}",
        flush=True,
    )
    return {
        "case": name,
        "precision": precision,
        "cpu_ms": {side: round(value, 2) for side, value in ms.items()},
        "samples_per_cpu_s": {side: round(1e3 * options.samples / value, 2) for side, value in ms.items()},
        "ratio": asdict(faster),
        "null": asdict(null),
        "num_rounds": len(timings[OURS].cpu_s),
        "losses": losses,
        "largest_loss_difference": apart,
        "real_token_share": round(case.real_share, 4),
        "stage": case.stage.fingerprint,
    }


def _in_turn(step: Step) -> Callable[[], float]:
    """Batch after batch, so that in a round everybody has the same one."""
    numbers = count()
    return lambda: step(next(numbers))


if __name__ == "__main__":
    sys.exit(run(Options, check, main, __doc__))
