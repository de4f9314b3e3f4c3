"""Fuzz the server: hostile messages in every dialect to a real server in its own process, from a seed.

Random bytes, mutated and truncated valid messages, wrong schemas, pickles that would create a file, messages beyond the
size cap, half frames on connections that stay open. After each batch a good client must get the right actions, and the
file must not exist. The server's memory, tasks, threads and open files are read after each batch. Linux (reads /proc).

    python bench/fuzz_server.py                                        all dialects, under two minutes
    python bench/fuzz_server.py --messages 100000 --dialect all

The last line printed is one JSON object; exit code 1 if the server failed, something was executed, or anything leaked.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fuzz.campaign import Campaign
from fuzz.hostile_pickles import are_live, hostile_pickles
from fuzz.messages import DIALECTS
from measure.command import run

from cerebella.evaluation.fingerprint import run_fingerprint

MAX_GROWTH_MIB = 16.0
"""Of the process, between a tenth of a campaign and its end: freed memory is cut up, and not all of it given back."""
MAX_NEW_BLOCKS = 20_000
"""Pieces of memory that Python objects hold, over a campaign. Metrics remember 4096 sessions; one piece kept per message
would be 100 000."""
MAX_NUM_THREADS = 40
"""The server's pools together, which start their threads when they are needed."""
_LEAKS = ("num_tasks", "num_files")
NUM_WARM_UP = 200
"""Messages to each dialect before the first look at the server: thread pools fill, modules are loaded."""


@dataclass(frozen=True)
class Options:
    """Arguments.

    Args:
        messages: to each dialect. batch: messages between two checks. seed: decides every message.
        dialect: one, or all.
    """

    messages: int = 5_000
    batch: int = 500
    seed: int = 0
    dialect: Literal["all", "openpi", "vla_eval", "xiaomi_npz", "xiaomi_pickle"] = "all"


class ServerUnderTest:
    """The server's process and what it says about itself."""

    def __init__(self) -> None:
        words = (sys.executable, "-m", "fuzz.server_process")
        self._process = subprocess.Popen(
            words, cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ports: dict[str, int] = self._read()

    def state(self) -> dict[str, float]:
        """Memory (MiB and blocks), tasks, threads, open files."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> int:
        """End it in order; the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(timeout=60)

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server has ended with exit code {self._process.wait()}")
        return json.loads(line)


def main(options: Options) -> None:
    """Run the campaigns one after the other against one server; print the report."""
    names = DIALECTS if options.dialect == "all" else (options.dialect,)
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        assert are_live(hostile_pickles(canary), canary), "the control: these pickles are harmful where they are loaded"
        server = ServerUnderTest()
        try:
            for name in DIALECTS:
                warm_up = Campaign(name, server.ports[name], options.seed + 1, canary)
                warm_up.run(NUM_WARM_UP, NUM_WARM_UP, lambda: None)
            reports = {name: _attack(server, name, options, canary) for name in names}
            end, exit_code = _settled(server), server.stop()
        except BaseException:
            server.kill()
            raise
    failures = [f"{name}: {fault}" for name, report in reports.items() for fault in report["faults"]]
    if exit_code:
        failures.append(f"the server ended with exit code {exit_code}")
    report = {
        "bench": "fuzz_server",
        "seed": options.seed,
        "num_messages": sum(report["num_messages"] for report in reports.values()),
        "dialects": reports,
        "at_the_end": end,
        "failures": failures,
        "run": run_fingerprint(options.seed),
    }
    print(json.dumps(report))
    if failures:
        raise SystemExit(1)


def _attack(server: ServerUnderTest, dialect: str, options: Options, canary: Path) -> dict[str, Any]:
    before = _settled(server)
    states: list[dict[str, float]] = []
    campaign = Campaign(dialect, server.ports[dialect], options.seed, canary)
    outcome = campaign.run(options.messages, options.batch, lambda: states.append(server.state()))
    after = _settled(server)
    memory = [state["rss_mib"] for state in states]
    settled_mib = memory[len(memory) // 10]
    faults = [f"{key}: {before[key]:g} before, {after[key]:g} after" for key in _LEAKS if after[key] > before[key]]
    if after["num_threads"] > MAX_NUM_THREADS:
        faults.append(f"{after['num_threads']:g} threads")
    num_new_blocks = round(after["num_blocks"] - before["num_blocks"])
    if num_new_blocks > MAX_NEW_BLOCKS:
        faults.append(f"Python objects hold {num_new_blocks} more pieces of memory")
    if memory[-1] - settled_mib > MAX_GROWTH_MIB:
        faults.append(f"memory grew from {settled_mib:g} to {memory[-1]:g} MiB")
    report = {
        "num_messages": options.messages,
        "by_category": dict(sorted(outcome.num_sent.items())),
        "num_answered": outcome.num_answered,
        "num_connections_ended": outcome.num_ended,
        "num_good_clients": outcome.num_checks,
        "duration_s": round(outcome.duration_s, 1),
        "rss_mib": {
            "before": before["rss_mib"],
            "after_a_tenth": settled_mib,
            "max": max(memory),
            "after": memory[-1],
        },
        "num_new_blocks": num_new_blocks,
        "tasks_files_threads": {
            "before": [before[key] for key in (*_LEAKS, "num_threads")],
            "after": [after[key] for key in (*_LEAKS, "num_threads")],
        },
        "executed": canary.exists(),
        "faults": faults,
    }
    print(f"{dialect:<14} {options.messages} messages in {outcome.duration_s:.0f} s, {memory[-1]:.0f} MiB", flush=True)
    return report


def _settled(server: ServerUnderTest) -> dict[str, float]:
    """The state once connections that were closed are gone: the smallest of each number in some looks."""
    states = [server.state() for _ in range(50)]
    return {key: min(state[key] for state in states) for key in states[0]}


def _check(options: Options) -> None:
    for name in ("messages", "batch"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be 1 or more; got {getattr(options, name)}")


if __name__ == "__main__":
    raise SystemExit(run(Options, _check, main, __doc__))
