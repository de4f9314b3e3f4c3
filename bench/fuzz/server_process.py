"""A real server with all dialects on free ports of the loopback interface; the other end of a campaign.

python -m fuzz.server_process         in bench/; prints its ports as JSON, answers each line on stdin with its state as
                                      JSON, and ends with stdin
"""

import asyncio
import gc
import json
import logging
import os
import sys
import threading

import numpy as np

from cerebella.interfaces import PolicyMetadata
from cerebella.released_robots import released_embodiment
from cerebella.serving.dialect import Dialect
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.server import Server, ServerConfig
from cerebella.serving.service import Service
from cerebella.serving.vla_eval import VlaEvalDialect
from cerebella.serving.xiaomi_npz import XiaomiNpzDialect
from cerebella.serving.xiaomi_pickle import XiaomiPickleDialect
from cerebella.types import ActionChunk, FloatArray, Observation

MAX_MESSAGE_BYTES = 256 << 10
HORIZON = 6


class EchoPolicy:
    """Row i is the first seven numbers of the state, plus i; the rows of a prefix come first."""

    def __init__(self) -> None:
        robot = released_embodiment("libero_all")
        self.metadata = PolicyMetadata("echo", robot, HORIZON, None, HORIZON - 1, "none")

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """At once."""
        actions = echo(observation.state)
        actions[: len(action_prefix)] = action_prefix
        return ActionChunk(actions, observation.tick, observation.tick, len(action_prefix), "echo", 0.0)


def echo(state: FloatArray) -> FloatArray:
    """What the policy answers without a prefix, float32[6, 7]."""
    return (state[:7] + np.arange(HORIZON, dtype=np.float32)[:, None]).astype(np.float32)


def all_dialects() -> tuple[Dialect, ...]:
    """Every wire dialect there is."""
    return OpenpiDialect(), VlaEvalDialect(), XiaomiNpzDialect(), XiaomiPickleDialect()


async def _serve() -> None:
    service = Service(EchoPolicy())
    server = Server(service, dict.fromkeys(all_dialects(), 0), ServerConfig(max_message_bytes=MAX_MESSAGE_BYTES))
    await server.start()
    await service.warm_up()
    print(json.dumps(server.ports), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        await asyncio.sleep(0)
        print(json.dumps(_state()), flush=True)
    await server.stop()


def _state() -> dict[str, float]:
    """Whatever could grow. `num_blocks`: pieces of memory that Python objects hold; unlike the process's size, it does not
    depend on how the allocator cuts up what was freed."""
    gc.collect()
    with open("/proc/self/statm") as file:
        num_pages = int(file.read().split()[1])
    return {
        "rss_mib": round(num_pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "num_blocks": sys.getallocatedblocks(),
        "num_tasks": len(asyncio.all_tasks()),
        "num_threads": threading.active_count(),
        "num_files": len(os.listdir("/proc/self/fd")),
    }


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # a refusal is no news here
    asyncio.run(_serve())
