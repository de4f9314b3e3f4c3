"""One point of the simulation in real time: a sleeping policy behind the real server, robots as coroutines."""

import asyncio
import time
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from cerebella.serving.arrays import unpack
from cerebella.serving.exchange import request_message

from .serving_process import server
from .serving_robots import Fleet, ServiceLaw
from .serving_stub import EMPTY, observation

_SIDE_PX = 8
"""The law holds the time on the host already, so the pictures are small."""


def measure(num_robots: int, law: ServiceLaw, fleet: Fleet, max_batch: int) -> dict[str, Any]:
    """Share of requests without an answer in time, and percentiles of the answers, milliseconds.

    Args:
        max_batch: 1 makes the same server serve one at a time.
    """
    fields = {"batch_s": dict(law.batch_s), "host_s": law.host_s, "jitter": law.jitter, "max_batch": max_batch}
    with server("ours", fields) as running:
        latencies_s, num_requests = asyncio.run(_play(running.url, num_robots, fleet))
    num_in_time = int((latencies_s <= fleet.deadline_s).sum())
    return {
        "num_robots": num_robots,
        "max_batch": max_batch,
        "num_requests": num_requests,
        "miss_share": round(1 - num_in_time / num_requests, 4),
        "p50_ms": round(float(np.percentile(latencies_s, 50)) * 1e3, 1),
        "p99_ms": round(float(np.percentile(latencies_s, 99)) * 1e3, 1),
    }


async def _play(url: str, num_robots: int, fleet: Fleet) -> tuple[np.ndarray, int]:
    """(latencies of all answers in seconds, requests)."""
    moments: dict[int, list[float]] = {robot: [] for robot in range(num_robots)}
    for moment_s, robot in fleet.arrivals(num_robots, seed=0):
        moments[robot].append(moment_s)
    start_s = time.monotonic() + 1.0 + 0.01 * num_robots
    runs = await asyncio.gather(
        *(_robot(url, start_s, moments[robot], fleet.deadline_s) for robot in range(num_robots))
    )
    return np.array([latency_s for latencies_s in runs for latency_s in latencies_s]), sum(map(len, moments.values()))


async def _robot(url: str, start_s: float, moments_s: list[float], deadline_s: float) -> list[float]:
    """Latencies of the answers; ends a second after its last request."""
    seen = observation(side_px=_SIDE_PX)
    sent_s: dict[int, float] = {}
    latencies_s: list[float] = []
    async with connect(url, compression=None, ping_interval=None) as websocket:
        await websocket.recv()

        async def receive() -> None:
            async for frame in websocket:
                fields = unpack(frame) if isinstance(frame, bytes) else {}
                if "actions" in fields:
                    latencies_s.append(time.monotonic() - sent_s[fields["seq"]])

        receiving = asyncio.create_task(receive())
        for seq, moment_s in enumerate(moments_s):
            await asyncio.sleep(max(0.0, start_s + moment_s - time.monotonic()))
            sent_s[seq] = time.monotonic()
            await websocket.send(request_message(seq, seen, EMPTY, deadline_s=deadline_s))
        await asyncio.sleep(1.0)
        receiving.cancel()
    return latencies_s
