"""The way to the policy of a run: a worker thread in this process, or a server."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cerebella.evaluation.suites import open_policy
from cerebella.interfaces import Environment, Policy, PolicyMetadata, Request, Transport
from cerebella.live.config import RunConfig
from cerebella.runtime.clock import Clock
from cerebella.runtime.transport import ThreadTransport
from cerebella.serving.remote_transport import RemoteTransport
from cerebella.types import Observation

_POLL_S = 0.0005
_NUM_WARM_UP = 2
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Brain:
    """A policy that can be asked.

    Args:
        metadata: what it says about itself. connect: a fresh transport to it, for one episode.
    """

    metadata: PolicyMetadata
    connect: Callable[[], Transport]


def open_brain(config: RunConfig, environment: Environment, clock: Clock) -> Brain:
    """Load the policy, or find its server.

    Raises:
        ValueError: an unknown name. FileNotFoundError: no such directory. ConnectionError: no such server.
    """
    if config.is_remote:
        return _open_server(config.policy, config.token)
    name = "zero" if config.policy == "hold" else config.policy
    source, metadata = open_policy(name, environment)
    latency_s = (config.latency_ms or 0.0) / 1e3

    def connect() -> Transport:
        policy: Policy = source(environment) if callable(source) else source
        return ThreadTransport(policy, clock, lambda request: latency_s)

    return Brain(metadata, connect)


def _open_server(url: str, token: str | None) -> Brain:
    first = RemoteTransport(url, token=token)
    metadata = first.metadata
    first.close()

    def connect() -> Transport:
        transport = RemoteTransport(url, token=token)
        if (found := transport.metadata) != metadata:
            transport.close()
            raise ValueError(f"{url} now has the policy {found.policy_id}, not {metadata.policy_id}; start anew")
        return transport

    return Brain(metadata, connect)


def measure_latencies(
    transport: Transport, observation: Observation, action_dim: int, num_calls: int, clock: Clock
) -> list[float]:
    """Seconds of `num_calls` questions, one after the other; some more before them warm up and are left out.

    Raises:
        ValueError: an answer is an error, or does not come within two minutes.
    """
    nothing = np.zeros((0, action_dim), dtype=np.float32)
    durations_s: list[float] = []
    for number in range(-_NUM_WARM_UP - num_calls, 0):  # the executor's requests begin at 0
        start_s = clock.now_s()
        transport.submit(Request(number, observation, nothing, 0))
        while not (replies := transport.poll(observation.tick)):
            if clock.now_s() - start_s > _TIMEOUT_S:
                raise ValueError(f"the policy gave no answer within {_TIMEOUT_S:g} s")
            clock.sleep_until_s(clock.now_s() + _POLL_S)
        durations_s.append(clock.now_s() - start_s)
        if replies[-1].error is not None:
            raise ValueError(f"the policy fails before anything moves: {replies[-1].error}")
    return durations_s[_NUM_WARM_UP:]
