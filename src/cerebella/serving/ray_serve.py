"""Several replicas of one policy behind one address, on Ray Serve: `pip install cerebella[scale]`.

A replica is a process with its own copy of the policy (one GPU each), its own batches, and the native dialect over websockets
(`asgi.AsgiApp`). Ray Serve starts it, checks its health, restarts it, adds and removes replicas, and spreads new connections
over them. A session lives where its websocket lives. Every request carries all that the policy needs, so a robot that has
to connect again may land on any replica and loses nothing but the answer that was under way.

    robot ---- websocket ----+                 +---- replica (policy, GPU 0)
    robot ---- websocket ----+---- proxy ------+---- replica (policy, GPU 1)
    robot ---- websocket ----+     host:port   +---- ...

Nothing of Ray is imported before `run` or `deploy` is called.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from cerebella.interfaces import Policy
from cerebella.serving.access import check_exposure
from cerebella.serving.asgi import AsgiApp
from cerebella.serving.memory import keep_freed_memory
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.server import ServerConfig
from cerebella.serving.service import Service, ServiceConfig

APPLICATION = "cerebella"
HEALTH_PERIOD_S = 1.0
LEASE_S = 4.0
"""Ray Serve asks a replica for its health every second until it begins to stop it, and says nothing to it otherwise. A
replica that was not asked for so long therefore ends its sessions. If it was Ray's controller that was away, they come back."""
REACHABLE_S = 8
"""A replica that stops stays reachable for so long, until the proxies have learned of it; more than `LEASE_S`."""
MAX_FRAME_BYTES = 16 << 20
"""What the web server of Ray Serve accepts in one frame (uvicorn's `ws_max_size`); it cannot be set."""

_POLL_S = 0.25
_AFFINITY_ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


@dataclass(frozen=True)
class ScaleOptions:
    """A deployment.

    Args:
        load_policy: called once in every replica; must be importable there (a function of a module, or `functools.partial`
            of one).
        num_replicas: processes, or the least number of them with `max_replicas`.
        max_replicas: replicas are added and removed with the number of connected robots; None keeps the number fixed.
        robots_per_replica: connections at which another replica is started.
        max_connections: of one replica; further ones are refused with status 503.
        gpus_per_replica, cpus_per_replica: what Ray reserves for one. A replica sees only its own GPU.
        host, port: where robots connect; an address that other machines can reach needs a token.
        token: what clients must send. Not shown when printed.
        service: how one replica schedules requests.
        proxy: `haproxy` (comes with Ray, adds 0.1 ms) or `python` (Ray's own, adds some ms, needs nothing beside Ray).
        has_session_affinity: connections that send the header `x-session-id` go to the replica which that id belongs to,
            instead of the one with the fewest connections. A policy without a memory gains nothing from it.
        address: of a running Ray cluster, `auto` for the one on this machine; None starts one that ends with `run`.
        object_store_bytes: shared memory of a cluster that is started here; policies need hardly any.
        drain_timeout_s: a replica that stops is killed after so long.
    """

    load_policy: Callable[[], Policy]
    num_replicas: int = 1
    max_replicas: int | None = None
    robots_per_replica: int = 32
    max_connections: int = 64
    gpus_per_replica: float = 1.0
    cpus_per_replica: float = 1.0
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    service: ServiceConfig = field(default_factory=ServiceConfig)
    proxy: Literal["haproxy", "python"] = "haproxy"
    has_session_affinity: bool = False
    address: str | None = None
    object_store_bytes: int = 100 << 20
    drain_timeout_s: float = 20.0

    def __post_init__(self) -> None:
        check_exposure(self.host, self.token)
        for name in ("num_replicas", "robots_per_replica", "max_connections", "port"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError(
                f"max_replicas must be {self.num_replicas} or more (num_replicas); got {self.max_replicas}"
            )
        if self.max_connections < self.robots_per_replica:
            raise ValueError(
                f"max_connections ({self.max_connections}) must be robots_per_replica ({self.robots_per_replica}) or "
                "more, or robots are refused before another replica is started"
            )
        if self.drain_timeout_s <= REACHABLE_S:
            raise ValueError(f"drain_timeout_s must be above {REACHABLE_S} s; got {self.drain_timeout_s}")


class Replica:
    """One copy of the policy. Made and called by Ray Serve, in a process of its own.

    Ray Serve calls it ready when `AsgiApp` has started, which is after the warm-up.
    """

    def __init__(self, options: ScaleOptions) -> None:
        keep_freed_memory()
        self._service = Service(options.load_policy(), options.service)
        config = ServerConfig(
            token=options.token, max_message_bytes=MAX_FRAME_BYTES, max_connections=options.max_connections
        )
        dialect = OpenpiDialect({"replica_pid": os.getpid()}, MAX_FRAME_BYTES)
        self._app = AsgiApp(self._service, dialect, config)
        self._asked_s = math.inf
        self._lease: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> AsgiApp:
        """What Ray Serve runs behind its web server."""
        return self._app

    async def check_health(self) -> None:
        """Called by Ray Serve every second.

        Raises:
            RuntimeError: the policy does not come back from an inference; Ray Serve starts another replica instead.
        """
        self._asked_s = time.monotonic()
        if self._lease is None:
            self._lease = asyncio.create_task(self._hold_lease())
        if self._service.is_stuck:
            raise RuntimeError(f"one inference has taken longer than {self._service.config.max_inference_s:g} s")

    async def _hold_lease(self) -> None:
        """End the sessions, once, when Ray Serve has stopped asking; see `LEASE_S`."""
        while True:
            await asyncio.sleep(_POLL_S)
            if time.monotonic() - self._asked_s > LEASE_S:
                self._asked_s = math.inf
                self._app.close_sessions()


def run(options: ScaleOptions) -> None:
    """Deploy, and serve until SIGINT or SIGTERM; with `address`, leave it running in that cluster.

    Raises:
        ModuleNotFoundError: Ray is not installed. RuntimeError: a replica cannot be started.
    """
    with cluster(options):
        deploy(options)
        print(f"{options.num_replicas} replicas ready at ws://{options.host}:{options.port}", flush=True)
        if options.address is None:
            stopped = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stopped.set())
            stopped.wait()


def deploy(options: ScaleOptions) -> None:
    """Start the replicas, or replace those of an earlier deployment one after the other; returns when all are ready.

    Needs a connected Ray. An update never has more replicas than `num_replicas`, because there may be no GPU for another: an
    old one ends its sessions (they go to the others), then a new one takes its place.
    """
    serve = importlib.import_module("ray.serve")
    config = importlib.import_module("ray.serve.config")
    schema = importlib.import_module("ray.serve.schema")

    serve.start(http_options=config.HTTPOptions(host=options.host, port=options.port))
    settings: dict[str, Any] = {"num_replicas": options.num_replicas}
    if options.max_replicas is not None:
        settings = {
            "autoscaling_config": config.AutoscalingConfig(
                min_replicas=options.num_replicas,
                max_replicas=options.max_replicas,
                target_ongoing_requests=options.robots_per_replica,  # an open websocket is one
            )
        }
    if options.has_session_affinity and options.proxy == "python":
        settings["request_router_config"] = config.RequestRouterConfig(request_router_class=_AFFINITY_ROUTER)
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="Replica",
        max_ongoing_requests=options.max_connections,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_wait_loop_s=_POLL_S,
        graceful_shutdown_timeout_s=options.drain_timeout_s,
        ray_actor_options={"num_gpus": options.gpus_per_replica, "num_cpus": options.cpus_per_replica},
        logging_config=schema.LoggingConfig(enable_access_log=False),
        **settings,
    )
    serve.run(deployment.bind(options), name=APPLICATION, route_prefix="/")


@contextlib.contextmanager
def cluster(options: ScaleOptions) -> Iterator[None]:
    """A connection to a running cluster, or a cluster of this machine that ends with the block.

    Raises:
        ModuleNotFoundError: Ray is not installed. ConnectionError: no such cluster.
    """
    for name, value in environment(options).items():
        os.environ.setdefault(name, value)
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("several replicas need Ray: pip install cerebella[scale]")
    ray = importlib.import_module("ray")
    if options.address is not None:
        ray.init(address=options.address, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
        return
    ray.init(include_dashboard=False, object_store_memory=options.object_store_bytes, log_to_driver=False)
    try:
        yield
    finally:
        importlib.import_module("ray.serve").shutdown()
        ray.shutdown()


def environment(options: ScaleOptions) -> dict[str, str]:
    """What has to be in the environment of every Ray process: here before Ray is imported, elsewhere before `ray start`."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if options.proxy == "haproxy":
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(REACHABLE_S),
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",  # after a change of the replicas, sessions stay as they are
        }
        if options.has_session_affinity:
            variables["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"] = "hdr(x-session-id)"
    return variables
