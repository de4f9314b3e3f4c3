"""One server per process, for the serving bench: `python -m measure.serving_servers KIND [LAW as JSON]`, run in bench/.

KIND is `ours`, `openpi` (the server code in the work tree that CEREBELLA_OPENPI_SOURCE names), `pickle` (the plainest socket
that works: 4 bytes of length, then a pickle; trusts its peer with everything), `ray_haproxy` or `ray_python` (one replica on
Ray Serve behind one of its proxies). Prints its port, serves until its standard input ends.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import pickle
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cerebella.serving import ray_serve
from cerebella.serving.memory import keep_freed_memory
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.server import Server, ServerConfig
from cerebella.serving.service import Service, ServiceConfig
from cerebella.types import Observation

from .serving_robots import ServiceLaw
from .serving_stub import EMPTY, HORIZON, SleepingPolicy, StubPolicy

SOURCE_VARIABLE = "CEREBELLA_OPENPI_SOURCE"
_OPENPI_FILE = Path("src/openpi/serving/websocket_policy_server.py")


def main(kind: str, law: str | None = None) -> None:
    """Serve until the parent is gone."""
    if kind in ("ray_haproxy", "ray_python"):
        return _ray("haproxy" if kind == "ray_haproxy" else "python")
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if kind == "ours":
        asyncio.run(_ours(law))
    elif kind == "openpi":
        _openpi()
    elif kind == "pickle":
        _pickle()
    else:
        raise ValueError(f"unknown kind of server {kind!r}; known: ours, openpi, pickle, ray_haproxy, ray_python")


def openpi_file() -> Path | None:
    """openpi's server, if the environment names its work tree.

    Raises:
        ValueError: it is not there.
    """
    root = os.environ.get(SOURCE_VARIABLE)
    if root is None:
        return None
    file = Path(root) / _OPENPI_FILE
    if not file.is_file():
        raise ValueError(f"{SOURCE_VARIABLE} must name a work tree of openpi; there is no {file}")
    return file


async def _ours(law: str | None) -> None:
    fields = json.loads(law) if law else {}
    max_batch = fields.pop("max_batch", ServiceConfig.max_batch)
    batch_s = {int(size): seconds for size, seconds in fields.pop("batch_s", {}).items()}
    policy = SleepingPolicy(ServiceLaw(batch_s, **fields)) if batch_s else StubPolicy()
    service = Service(policy, ServiceConfig(max_batch=max_batch, max_pending=1024))
    dialect = OpenpiDialect()
    keep_freed_memory()  # as `cerebella serve` does
    server = Server(service, {dialect: 0}, ServerConfig(max_connections=1024))
    await server.start()
    await service.warm_up()
    print(server.ports[dialect.name], flush=True)
    await asyncio.Event().wait()


def _openpi() -> None:
    file = openpi_file()
    assert file is not None
    spec = importlib.util.spec_from_file_location("openpi_server", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    port = _free_port()
    print(port, flush=True)
    module.WebsocketPolicyServer(_OpenpiStub(), "127.0.0.1", port, {}).serve_forever()


def _ray(proxy: Literal["haproxy", "python"]) -> None:
    options = ray_serve.ScaleOptions(
        StubPolicy, gpus_per_replica=0, cpus_per_replica=0.1, port=_free_port(), proxy=proxy
    )
    with ray_serve.cluster(options), contextlib.redirect_stdout(sys.stderr):
        ray_serve.deploy(options)
        print(options.port, file=sys.__stdout__, flush=True)
        sys.stdin.read()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class _OpenpiStub:
    """The stub policy as openpi's server wants it."""

    def infer(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"actions": np.tile(fields["state"], (HORIZON, 1))}


def _pickle() -> None:
    policy = StubPolicy()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (fields := receive_pickle(connection)) is not None:
                    seen = Observation(fields["state"], fields["prompt"], fields["tick"], 0.0, fields["images"])
                    send_pickle(connection, {"actions": policy.infer(seen, EMPTY).actions})


def send_pickle(connection: socket.socket, value: object) -> None:
    """One message of the plain socket."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    connection.sendall(struct.pack(">I", len(data)))
    connection.sendall(data)


def receive_pickle(connection: socket.socket) -> Any:
    """The next message, None when the peer has left."""
    head = _exactly(connection, 4)
    if head is None:
        return None
    data = _exactly(connection, struct.unpack(">I", head)[0])
    return None if data is None else pickle.loads(data)


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        num_read = connection.recv_into(view)
        if not num_read:
            return None
        view = view[num_read:]
    return data


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
