"""E-12: an executor that runs overnight needs no more memory than one that runs a minute."""

import gc
import tracemalloc

import numpy as np
import pytest

from cerebella.runtime.executor_config import Mode

from .arm import Loop, ScriptedTransport, WanderingPolicy, make_arm, make_executor, make_metadata


class ForgetfulTransport(ScriptedTransport):
    """As scripted, without a memory of its own."""

    def submit(self, request) -> None:  # type: ignore[no-untyped-def]
        super().submit(request)
        self.submitted = [None] * (len(self.submitted) % 1000)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("mode", ["prefix", "ensemble"])
def test_e12_memory_does_not_grow(mode: Mode) -> None:
    """Lost, late and refused answers, stalls and stops included; a million ticks are `make test-long`'s."""
    rng = np.random.default_rng(0)
    policy = WanderingPolicy(make_metadata(make_arm(), 16), 1, failures=frozenset(range(0, 100_000, 17)))
    transport = ForgetfulTransport(policy, lambda k: [] if k % 29 == 3 else [int(rng.integers(1, 9))])
    executor = make_executor(policy, transport, mode, config={"num_kept": 200, "reply_timeout": 12})
    loop = Loop(executor)

    def grow(num_ticks: int) -> int:
        loop.run(num_ticks)
        del loop.sent[:-4]
        policy.seen.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        grow(1500)
        sizes = [grow(800) for _ in range(3)]
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 40_000, f"bytes: {sizes}; 1600 ticks that keep one chunk per answer take 200 000"
    assert len(executor.trace) == len(executor.requests) == 200
