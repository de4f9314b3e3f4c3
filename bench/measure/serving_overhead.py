"""What a request costs beside the policy: a policy that answers at once, 452 kB over loopback, every peer in turn."""

import importlib
import importlib.util
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebella.serving.client import RemotePolicy
from cerebella.types import FloatArray, Observation

from .serving_process import ServerProcess, server
from .serving_servers import openpi_file, receive_pickle, send_pickle
from .serving_stub import EMPTY, metadata, observation
from .timing import ratio

OURS = "our server, our client"
NULL = "the same again"
NUM_OBSERVATIONS = 8
_KEYS = {f"images/{view}": f"images/{view}" for view in ("base", "left_wrist", "right_wrist")}
_KEYS |= {"state": "state", "prompt": "prompt"}

Ask = Callable[[Observation], FloatArray]
Seconds = NDArray[np.float64]


def measure(num_rounds: int, num_calls: int) -> dict[str, Any]:
    """Rows of the table: per contender the median and p99 over all calls, the median of its quietest round, and the ratio
    of its rounds' medians to ours.

    Every answer is compared with its question outside the timer.
    """
    questions = [observation(tick) for tick in range(NUM_OBSERVATIONS)]
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(make) for name, make in _contenders().items()}
        for ask in contenders.values():
            _round(ask, questions, num_calls // 4 + 1)
        times_s: dict[str, list[Seconds]] = {name: [] for name in contenders}
        names = list(contenders)
        for number in range(num_rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                times_s[name].append(_round(contenders[name], questions, num_calls))
    medians_s = {name: [float(np.median(one)) for one in rounds] for name, rounds in times_s.items()}
    rows = []
    for name, rounds in times_s.items():
        every_ms = np.concatenate(rounds) * 1e3
        against = ratio(medians_s[name], medians_s[OURS])
        rows.append(
            {
                "name": name,
                "p50_ms": round(float(np.median(every_ms)), 3),
                "p99_ms": round(float(np.percentile(every_ms, 99)), 3),
                "p50_quiet_ms": round(min(medians_s[name]) * 1e3, 3),
                "min_ms": round(float(every_ms.min()), 3),
                "times_ours": {key: round(value, 3) for key, value in asdict(against).items()},
            }
        )
    num_bytes = sum(picture.nbytes for picture in questions[0].images.values()) + questions[0].state.nbytes
    return {"num_bytes": num_bytes, "num_calls": num_rounds * num_calls, "rows": rows}


def table(report: Mapping[str, Any]) -> str:
    """The rows for people."""
    lines = [f"{'host overhead, ms':38}{'p50':>8}{'quiet':>8}{'p99':>8}{'min':>8}   times ours [95 %]"]
    for row in report["rows"]:
        against = row["times_ours"]
        interval = f"{against['median']:.2f} [{against['low']:.2f}, {against['high']:.2f}]"
        lines.append(
            f"{row['name']:38}{row['p50_ms']:>8.3f}{row['p50_quiet_ms']:>8.3f}"
            f"{row['p99_ms']:>8.2f}{row['min_ms']:>8.3f}   {interval}"
        )
    return "\n".join(lines)


def _contenders() -> dict[str, Any]:
    """Name to a context that gives a function; those that are not installed are left out."""
    contenders: dict[str, Any] = {OURS: _ours(), NULL: _ours(), "pickle socket": _pickle()}
    has_client = importlib.util.find_spec("openpi_client") is not None
    if has_client:
        contenders["our server, openpi's client"] = _openpi_client("ours")
    if has_client and openpi_file() is not None:
        contenders["openpi's server, openpi's client"] = _openpi_client("openpi")
        contenders["openpi's server, our client"] = _our_client_there()
    if importlib.util.find_spec("ray") is not None:
        contenders["Ray Serve, HAProxy, our client"] = _ours("ray_haproxy")
        contenders["Ray Serve, its own proxy, our client"] = _ours("ray_python")
    return contenders


@contextmanager
def _ours(kind: str = "ours") -> Iterator[Ask]:
    with server(kind) as running, RemotePolicy(running.url) as policy:
        yield lambda seen: policy.infer(seen, EMPTY).actions


@contextmanager
def _our_client_there() -> Iterator[Ask]:
    with server("openpi") as running, RemotePolicy(running.url, metadata=metadata(), keys=_KEYS) as policy:
        yield lambda seen: policy.infer(seen, EMPTY).actions


@contextmanager
def _openpi_client(kind: str) -> Iterator[Ask]:
    client_module = importlib.import_module("openpi_client.websocket_client_policy")
    with server(kind) as running:
        client: Any = client_module.WebsocketClientPolicy("127.0.0.1", running.port)
        yield lambda seen: client.infer(_fields(seen))["actions"]
        client._ws.close()  # it has no public way to end


@contextmanager
def _pickle() -> Iterator[Ask]:
    with server("pickle") as running, _plain_socket(running) as connection:

        def ask(seen: Observation) -> FloatArray:
            fields = {"images": dict(seen.images), "state": seen.state, "prompt": seen.prompt, "tick": seen.tick}
            send_pickle(connection, fields)
            return receive_pickle(connection)["actions"]

        yield ask


@contextmanager
def _plain_socket(running: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _fields(seen: Observation) -> dict[str, Any]:
    images = {f"images/{view}": picture for view, picture in seen.images.items()}
    return {**images, "state": seen.state, "prompt": seen.prompt}


def _round(ask: Ask, questions: list[Observation], num_calls: int) -> Seconds:
    """Seconds of each call."""
    seconds = np.empty(num_calls)
    for number in range(num_calls):
        seen = questions[number % len(questions)]
        start_s = time.perf_counter()
        actions = ask(seen)
        seconds[number] = time.perf_counter() - start_s
        if not np.array_equal(actions[-1], seen.state):
            raise RuntimeError(f"the answer to tick {seen.tick} belongs to another question")
    return seconds
