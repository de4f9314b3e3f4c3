"""What must not change: the server's memory over many requests, and a good client's latency beside bad ones."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from cerebella.serving.client import RemotePolicy
from cerebella.serving.exchange import request_message

from .serving_process import ServerProcess, server
from .serving_stub import EMPTY, observation

NUM_WARM_UP = 500
PER_CONNECTION = 100
GOOD_HZ = 30.0
NUM_SLOW, NUM_FLOOD, NUM_KNOCKING = 4, 32, 8
_BENCH = Path(__file__).parents[1]


def memory(num_requests: int) -> dict[str, Any]:
    """Resident memory of the server after a warm-up, in the middle and at the end; a new connection every 100 requests."""
    with server("ours") as running:
        _send(running, NUM_WARM_UP)
        start_mb = running.memory_mb()
        cpu_s = running.cpu_s()
        _send(running, num_requests // 2)
        middle_mb = running.memory_mb()
        _send(running, num_requests - num_requests // 2)
        end_mb = running.memory_mb()
        cpu_ms = (running.cpu_s() - cpu_s) / num_requests * 1e3
    return {
        "num_requests": num_requests,
        "start_mb": round(start_mb, 1),
        "middle_mb": round(middle_mb, 1),
        "end_mb": round(end_mb, 1),
        "server_cpu_ms_per_request": round(cpu_ms, 3),
    }


def neighbours(num_turns: int, duration_s: float) -> dict[str, dict[str, float]]:
    """Latencies, ms, of a client that asks 30 times a second with 452 kB: alone, and beside bad ones of each kind, in turn.

    Of every kind the turn with the lowest p99: other work on the machine delays a client as well.
    """
    turns: dict[str, list[dict[str, float]]] = {"alone": [], "slow_readers": [], "flood": []}
    with server("ours") as running:
        for _ in range(num_turns):
            for name, seen in turns.items():
                with nullcontext() if name == "alone" else _bad_clients(name, running):
                    seen.append(_good_client(running, duration_s))
    return {name: min(seen, key=lambda turn: turn["p99_ms"]) for name, seen in turns.items()}


def _send(running: ServerProcess, num_requests: int) -> None:
    seen = observation()
    messages = [request_message(seq, seen, EMPTY) for seq in range(8)]
    for first in range(0, num_requests, PER_CONNECTION):
        with connect(running.url, compression=None, ping_interval=None) as websocket:
            websocket.recv()
            for number in range(min(PER_CONNECTION, num_requests - first)):
                websocket.send(messages[number % len(messages)])
                websocket.recv()


def _good_client(running: ServerProcess, duration_s: float) -> dict[str, float]:
    seen = observation()
    seconds: list[float] = []
    with RemotePolicy(running.url) as policy:
        due_s = time.monotonic()
        for _ in range(int(duration_s * GOOD_HZ)):
            due_s += 1 / GOOD_HZ
            time.sleep(max(0.0, due_s - time.monotonic()))
            start_s = time.perf_counter()
            policy.infer(seen, EMPTY)
            seconds.append(time.perf_counter() - start_s)
    p50, p99 = np.percentile(np.array(seconds) * 1e3, (50, 99))
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2), "max_ms": round(max(seconds) * 1e3, 2)}


@contextmanager
def _bad_clients(kind: str, running: ServerProcess) -> Iterator[None]:
    """In a process of their own; the block begins when they are at it."""
    paths = [str(_BENCH), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "measure.serving_steady", kind, str(running.port)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "at it":
            raise RuntimeError(f"the bad clients ({kind}) did not start")
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _slow(port: int) -> None:
    """Ask all the time and never read: the answers fill the sockets until the server gives the client up."""
    message = request_message(0, observation(side_px=8), EMPTY)

    async def one() -> None:
        while True:
            plain = socket.create_connection(("127.0.0.1", port))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                async with connect_async(f"ws://127.0.0.1:{port}", sock=plain, max_queue=1, ping_interval=None) as wire:
                    while True:
                        await wire.send(message)
                        await asyncio.sleep(0.002)
            except (WebSocketException, OSError):
                pass  # given up, as it should be; come back at once

    await asyncio.gather(*(one() for _ in range(NUM_SLOW)))


async def _flood(port: int) -> None:
    """Many clients that ask as fast as they are answered, and some that only knock and leave."""
    message = request_message(0, observation(side_px=64), EMPTY)

    async def asking() -> None:
        async with connect_async(f"ws://127.0.0.1:{port}", compression=None, ping_interval=None) as wire:
            await wire.recv()
            while True:
                await wire.send(message)
                await wire.recv()

    async def knocking() -> None:
        while True:
            async with connect_async(f"ws://127.0.0.1:{port}", compression=None, ping_interval=None) as wire:
                await wire.recv()

    await asyncio.gather(*(asking() for _ in range(NUM_FLOOD)), *(knocking() for _ in range(NUM_KNOCKING)))


if __name__ == "__main__":
    print("at it", flush=True)
    asyncio.run({"slow_readers": _slow, "flood": _flood}[sys.argv[1]](int(sys.argv[2])))
