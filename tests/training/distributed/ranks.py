"""Run a function in several processes that know each other, as torchrun would start them."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cerebella.training.parallel import World, start_world, stop_world

LONGEST_S = 120.0
PRELOADED = ["torch", "cerebella.training.parallel", "cerebella.training.checkpoint", "cerebella.models.vla"]


def processes() -> Any:
    """Processes that start in milliseconds, forked from one that has imported the heavy packages and run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_ranks(function: Callable[[World, Path], Any], size: int, directory: Path) -> list[Any]:
    """What `function(world, directory)` returns on each of `size` ranks.

    Raises:
        AssertionError: a rank failed, or they wait for each other.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = [
        processes().Process(target=_work, args=(function, rank, size, port, directory), daemon=True)
        for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONGEST_S)
    is_waiting = [worker.is_alive() for worker in workers]
    for worker in workers:
        worker.kill()
    errors = [path.read_text() for path in sorted(directory.glob("error-*.txt"))]
    assert not errors, "\n".join(errors)
    assert not any(is_waiting), f"ranks that wait for ever: {is_waiting}"
    return [torch.load(directory / f"result-{rank}.pt", weights_only=False) for rank in range(size)]


def _work(function: Callable[[World, Path], Any], rank: int, size: int, port: int, directory: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        world = start_world(timeout_s=30)
        torch.save(function(world, directory), directory / f"result-{rank}.pt")
        stop_world(world)
    except BaseException:
        (directory / f"error-{rank}.txt").write_text(f"rank {rank}\n{traceback.format_exc()}")
        raise
