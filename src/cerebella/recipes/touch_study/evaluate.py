"""One condition of one refiner, measured by itself: trials in, a result out.

schema, schema_version   cerebella.touch.eval, 1
policy                   path and id
run                      commit, command, versions, machine (`evaluation.fingerprint`)
protocol, objects        how trials were drawn
trials                   rows, see `trials`
summary                  `all` and every class, see `summary.Summary`
cpu_s                    CPU seconds of the trials
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.recipes.touch_study.protocol import Protocol
from cerebella.recipes.touch_study.summary import GRADES, Summary, by_kind, summarise
from cerebella.recipes.touch_study.tables import percent, with_interval
from cerebella.recipes.touch_study.trials import Row, measure_trial
from cerebella.touch.refinement_steps import Predictor

SCHEMA, SCHEMA_VERSION = "cerebella.touch.eval", 1


def evaluate(
    predictor: Predictor,
    protocol: Protocol,
    objects: Sequence[str],
    num_trials: int,
    policy: Mapping[str, str],
    show_progress: bool = True,
) -> dict[str, Any]:
    """The result, as JSON has it; see the module. Objects take turns.

    Args:
        policy: `path` and `policy_id`, for the record.

    Raises:
        ValueError: no object, or fewer than one trial; see also `protocol.draw_trial`.
    """
    if not objects or num_trials < 1:
        raise ValueError(f"need 1 object and 1 trial or more; got {len(objects)} objects and {num_trials} trials")
    run, start_s = run_fingerprint(protocol.seed), time.process_time()
    units = [(objects[i % len(objects)], i // len(objects)) for i in range(num_trials)]
    bar = tqdm(units, desc="trials", unit="trial", disable=not show_progress)
    rows = [measure_trial(predictor, protocol, name, number) for name, number in bar]
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "policy": dict(policy),
        "run": run,
        "protocol": protocol.to_json(),
        "objects": list(objects),
        "trials": rows,
        "summary": {name: summary.to_json() for name, summary in _parts(rows).items()},
        "cpu_s": round(time.process_time() - start_s, 2),
    }


def text_table(rows: Sequence[Row]) -> str:
    """A line for all trials and each class, for a terminal: success at the end of the loop, errors, refusals."""
    head = ["", "trials", *(f"{grade}, %" for grade in GRADES), "start mm", "end mm", "end deg", "refused"]
    lines = [head]
    for name, s in _parts(rows).items():
        start = f"{s.start_mm.mean:.2f}" if s.start_mm else ""
        errors = [start, with_interval(s.end_mm), with_interval(s.end_deg)]
        lines.append(
            [name, str(s.num_trials), *(percent(s.at_end[grade]) for grade in GRADES), *errors, str(s.num_refused)]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    refused = summarise(rows).refused
    reasons = "refused because of: " + ", ".join(f"{problem} {num}" for problem, num in refused.items())
    return "\n".join([*told, *([reasons] if refused else [])])


def _parts(rows: Sequence[Row]) -> dict[str, Summary]:
    return {name: summarise(mine) for name, mine in {"all": list(rows), **by_kind(rows)}.items()}
