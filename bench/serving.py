"""What the server adds to a policy, and how many robots it holds. No model: the policies answer at once, or sleep.

    .venv/bin/python bench/serving.py

Four parts, each with its gate:

overhead    one request of 452 kB over loopback to a policy that answers at once, from an observation in memory to a chunk
            in memory. Beside ours: a plain pickle socket; with `openpi_client` importable its client; with
            CEREBELLA_OPENPI_SOURCE=WORK_TREE also openpi's own server code; with `ray` one replica on Ray Serve. All take
            turns.
robots      how many robots one server answers within 200 ms, at most 1 % of the requests missed: our scheduler's decision
            function against a queue that batches nothing, on a virtual clock, under a stated law of service times; then
            one point of it in real time against the real server.
memory      the server's resident memory over many requests.
neighbours  the latencies of a good client beside clients that never read, and beside a flood.

The last line is one JSON object.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

import tyro
from measure import serving_live, serving_overhead, serving_steady
from measure.serving_robots import Fleet, ServiceLaw, most_robots, simulate

from cerebella.evaluation.fingerprint import run_fingerprint

SCHEMA_VERSION = 1
MAX_OVERHEAD_MS = 1.0
MIN_RATIO = 1.2
MAX_GROWTH_MB = 5.0
MAX_NEIGHBOUR_MS = 100.0
LIVE_SHARE = 0.9

LAWS = {
    "2x224": ServiceLaw({1: 4.4e-3, 2: 7.3e-3, 4: 13.5e-3, 8: 26.2e-3}),
    "3x320x256+85": ServiceLaw({1: 7.4e-3, 2: 13.8e-3, 4: 26.5e-3, 8: 52.1e-3}),
}
"""Geometry -> seconds per batch at 60 % of what an H200 can do (computed from the limits of `limits.py`, see docs/scale.md),
plus 3 ms on the host per call, times a normal factor of 5 %. Stated, not measured."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Args:
        parts: any of overhead, robots, memory, neighbours.
        rounds, calls: of each contender, and calls in a round. requests: of the memory part.
        replan_ticks: ticks of 30 Hz between two requests of one robot.
        turns, seconds: of the neighbours, and seconds of each point in real time.
        check: exit with 1 if a gate does not hold.
    """

    parts: tuple[str, ...] = ("overhead", "robots", "memory", "neighbours")
    rounds: int = 15
    calls: int = 40
    requests: int = 10_000
    replan_ticks: tuple[int, ...] = (20, 10)
    turns: int = 2
    seconds: float = 6.0
    check: bool = False


def main(options: Options) -> int:
    """Run the parts in order; the exit code."""
    known = {"overhead": _overhead, "robots": _robots, "memory": _memory, "neighbours": _neighbours}
    if unknown := [part for part in options.parts if part not in known]:
        raise ValueError(f"unknown part {unknown[0]!r}; known: {', '.join(known)}")
    report: dict[str, Any] = {"bench": "serving", "schema_version": SCHEMA_VERSION}
    gates: dict[str, bool] = {}
    for part in options.parts:
        report[part], gates[part] = known[part](options)
        print(f"gate {part}: {'holds' if gates[part] else 'DOES NOT HOLD'}\n", flush=True)
    print(json.dumps(report | {"gates": gates, "run": run_fingerprint(0)}))
    return int(options.check and not all(gates.values()))


def _overhead(options: Options) -> tuple[dict[str, Any], bool]:
    """Gate: the median of our quietest round, because other work on the machine counts in every other one."""
    report = serving_overhead.measure(options.rounds, options.calls)
    print(serving_overhead.table(report))
    ours = next(row for row in report["rows"] if row["name"] == serving_overhead.OURS)
    return report, ours["p50_quiet_ms"] <= MAX_OVERHEAD_MS


def _robots(options: Options) -> tuple[dict[str, Any], bool]:
    """Gate: every ratio; and the real server misses at most 1 % at nine tenths of what the virtual one holds."""
    rows = []
    print(
        f"{'robots within 200 ms':22}{'k':>4}{'ours':>7}{'p99 ms':>8}{'batch':>7}{'fifo':>7}{'p99 ms':>8}{'ratio':>7}"
    )
    for geometry, law in LAWS.items():
        for replan_ticks in options.replan_ticks:
            fleet = Fleet(replan_ticks)
            ours, fifo = most_robots(law, "edf", fleet), most_robots(law, "fifo", fleet)
            row = {
                "geometry": geometry,
                "replan_ticks": replan_ticks,
                "robots": ours.num_robots,
                "p99_ms": round(ours.p99_s * 1e3, 1),
                "mean_batch": round(ours.mean_batch, 2),
                "fifo_robots": fifo.num_robots,
                "fifo_p99_ms": round(fifo.p99_s * 1e3, 1),
                "ratio": round(ours.num_robots / max(fifo.num_robots, 1), 2),
            }
            rows.append(row)
            print(
                f"{geometry:22}{replan_ticks:>4}{row['robots']:>7}{row['p99_ms']:>8}{row['mean_batch']:>7}"
                f"{row['fifo_robots']:>7}{row['fifo_p99_ms']:>8}{row['ratio']:>7}"
            )
    live = _live(int(LIVE_SHARE * rows[-1]["robots"]), Fleet(rows[-1]["replan_ticks"], duration_s=options.seconds))
    holds = all(row["ratio"] >= MIN_RATIO for row in rows) and live["real"]["miss_share"] <= 0.01
    return {"laws": {name: dict(law.batch_s) for name, law in LAWS.items()}, "rows": rows, "live": live}, holds


def _live(num_robots: int, fleet: Fleet) -> dict[str, Any]:
    """The last row's law in real time, and what the virtual clock says of the same robots."""
    law = list(LAWS.values())[-1]
    virtual = simulate(num_robots, law, "edf", fleet)
    live = {
        "virtual": {"miss_share": round(virtual.miss_share, 4), "p99_ms": round(virtual.p99_s * 1e3, 1)},
        "real": serving_live.measure(num_robots, law, fleet, law.max_batch),
        "real_without_batches": serving_live.measure(num_robots, law, fleet, 1),
    }
    print(f"{num_robots} robots, k = {fleet.replan_ticks}, in real time:")
    for name, one in live.items():
        print(f"  {name:22} missed {100 * one['miss_share']:5.1f} %, p99 {one['p99_ms']:.1f} ms")
    return live


def _memory(options: Options) -> tuple[dict[str, Any], bool]:
    """Gate: what is left after the second half is not more than after the warm-up, but for some MB."""
    report = serving_steady.memory(options.requests)
    print(
        f"memory over {report['num_requests']} requests: {report['start_mb']} MB at the start, {report['middle_mb']} MB in "
        f"the middle, {report['end_mb']} MB at the end; {report['server_cpu_ms_per_request']} ms of the server's CPU each"
    )
    return report, report["end_mb"] - report["start_mb"] <= MAX_GROWTH_MB


def _neighbours(options: Options) -> tuple[dict[str, Any], bool]:
    """Gate: beside bad clients p99 stays below half of a deadline of 200 ms."""
    report = serving_steady.neighbours(options.turns, options.seconds)
    print(f"{'a good client, ms':22}{'p50':>8}{'p99':>8}{'max':>8}")
    for name, row in report.items():
        print(f"{name:22}{row['p50_ms']:>8}{row['p99_ms']:>8}{row['max_ms']:>8}")
    return report, max(row["p99_ms"] for row in report.values()) <= MAX_NEIGHBOUR_MS


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
