"""What the executor itself costs: ticks per CPU-second on the virtual clock, for every mode. No model, no environment.

The policy answers at once from a table; all that is timed is the asynchronous machinery: one command per tick, requests,
promises, splices, records. A robot at 1000 Hz has 1 ms for a tick. Prints one JSON object as the last line.
"""

import json
import time

import numpy as np
import tyro

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.interfaces import PolicyMetadata, Request
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig, Mode
from cerebella.runtime.transport import VirtualTransport
from cerebella.types import ActionChunk, Observation

HORIZON, EXECUTE_HORIZON, DELAY, ACTION_DIM = 32, 12, 4, 14
NUM_TICKS, NUM_REPEATS, NUM_EPISODES = 2_000, 5, 5
MODES: tuple[Mode, ...] = ("sync", "naive", "prefix")


def main() -> None:
    """Interleave the modes, so that a slow moment of the machine hits all of them; report the median."""
    cpu_us: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(NUM_REPEATS):
        for mode in MODES:
            start_s = time.process_time()
            for _ in range(NUM_EPISODES):
                _run_episode(mode)
            cpu_us[mode].append((time.process_time() - start_s) / (NUM_TICKS * NUM_EPISODES) * 1e6)
    report = {
        "bench": "executor_overhead",
        "num_ticks": NUM_TICKS * NUM_EPISODES * NUM_REPEATS,
        "horizon": HORIZON,
        "execute_horizon": EXECUTE_HORIZON,
        "delay_ticks": DELAY,
        "action_dim": ACTION_DIM,
        "cpu_us_per_tick": {mode: round(float(np.median(values)), 2) for mode, values in cpu_us.items()},
        "ticks_per_cpu_s": {mode: round(1e6 / float(np.median(values))) for mode, values in cpu_us.items()},
        "run": run_fingerprint(0),
    }
    for mode in MODES:
        print(f"{mode:<7} {report['cpu_us_per_tick'][mode]:>7.1f} us of CPU per tick")
    print(json.dumps(report))


def _run_episode(mode: Mode) -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (HORIZON, ACTION_DIM)).astype(np.float32)

    def infer_batch(requests: list[Request]) -> list[ActionChunk]:
        chunks = []
        for request in requests:
            observation, prefix = request.observation, request.action_prefix
            actions = np.concatenate([prefix, rows[len(prefix) :]])
            chunks.append(ActionChunk(actions, observation.tick, observation.tick, len(prefix), "table", 0.0))
        return chunks

    metadata = PolicyMetadata("table", _arm(), HORIZON, None, HORIZON - 1, "none")
    transport = VirtualTransport(infer_batch, lambda _: DELAY)
    executor = Executor(metadata, ExecutorConfig(mode, EXECUTE_HORIZON), transport, DelayEstimator(initial=DELAY + 1))
    state = np.zeros(ACTION_DIM, dtype=np.float32)
    for tick in range(NUM_TICKS):
        executor.observe(Observation(state=state, prompt="bench", tick=tick, timestamp_s=tick / 30))
        executor.command()


def _arm() -> Embodiment:
    """Two seven-joint arms, the usual width of a bimanual robot."""
    names = [f"joint_{i}" for i in range(ACTION_DIM)]
    states = tuple(Dimension(name, "rad", "joint", "base", i, -3.0, 3.0) for i, name in enumerate(names))
    actions = tuple(
        ActionDimension(name, "rad", "joint", "base", i, -3.0, 3.0, 3.0, 30.0, 300.0, "last", name, False)
        for i, name in enumerate(names)
    )
    return Embodiment("bench_arm", "joint", states, actions, ("base",), 30.0, 30.0)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
