"""`cerebella serve`: a policy for robots to connect to, in several wire dialects."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from cerebella.cli.errors import closest

if TYPE_CHECKING:
    from cerebella.interfaces import Policy
    from cerebella.serving.dialect import Dialect
    from cerebella.serving.server import Server
    from cerebella.serving.service import Service

HOLD = "hold"


@dataclass(frozen=True)
class Serve:
    """Serve a policy until SIGINT or SIGTERM; then answer what is under way, and end.

    Prints one line of JSON that begins with "ready" when the policy is warm.
    """

    source: Annotated[Positional[str], arg(metavar="DIR|HUB_ID|hold")]
    """a policy directory, owner/name on a hub, or `hold`: stands still (for tests of a set-up, with --embodiment)"""
    host: str = "127.0.0.1"
    """address to listen on; one that other machines can reach needs --token-file"""
    port: int = 8000
    """port of the native dialect, openpi; 0 picks a free one"""
    vla_eval_port: int | None = None
    """also speak vla-eval's model-server protocol on this port"""
    vla_eval_execute_horizon: int | None = None
    """rows of a chunk that vla-eval uses before the policy is asked again (default: all of them)"""
    xiaomi_port: int | None = None
    """also speak the npz protocol of Xiaomi-Robotics-1 on this port (loopback only)"""
    xiaomi_pickle_port: int | None = None
    """also read the pickles of the Xiaomi-Robotics-0 client on this port, without executing them (loopback only)"""
    token_file: Path | None = None
    """file with the token that clients must send"""
    tls_cert: Path | None = None
    """certificate chain in PEM; needs --tls-key"""
    tls_key: Path | None = None
    """its private key in PEM"""
    max_batch: int = 8
    """requests of several robots that are evaluated together, at most"""
    max_connections: int = 64
    """over all dialects"""
    max_message_mib: float = 64.0
    """a larger message ends its connection"""
    drain_s: float = 10.0
    """seconds that the end waits for answers under way"""
    engine: Literal["readable", "fast"] = "fast"
    """the model as it is written down (mode `guided` needs it), or the engine with the same numbers"""
    device: str = "auto"
    """where the policy runs; `auto` is the GPU if there is one"""
    num_flow_steps: Annotated[int | None, arg(name="flow-steps")] = None
    """Euler steps from noise to actions (default: what the policy's config says)"""
    robot_type: str | None = None
    """which of a released checkpoint's robots"""
    embodiment: Path | None = None
    """embodiment.json of the robot, for `hold` and for released checkpoints of unknown robots"""
    horizon: int = 16
    """rows of a chunk of `hold`"""
    replicas: int | None = None
    """serve that many copies of the policy under Ray Serve (pip install 'cerebella[scale]'; docs/scale.md)"""
    max_replicas: int | None = None
    """with --replicas: add copies, up to so many, as robots connect"""
    gpus_per_replica: float = 0.0
    """with --replicas: what Ray reserves for each copy"""

    def run(self) -> int:
        """Serve; 0 after an orderly end."""
        if self.replicas is not None:
            return self._run_replicas()
        from cerebella.serving.access import read_token
        from cerebella.serving.memory import keep_freed_memory
        from cerebella.serving.server import Server, ServerConfig
        from cerebella.serving.service import Service, ServiceConfig

        config = ServerConfig(
            host=self.host,
            token=None if self.token_file is None else read_token(self.token_file),
            tls_certificate=self.tls_cert,
            tls_key=self.tls_key,
            max_message_bytes=int(self.max_message_mib * (1 << 20)),
            max_connections=self.max_connections,
            drain_timeout_s=self.drain_s,
        )
        keep_freed_memory()
        listeners = self._listeners(config.max_message_bytes)
        policy = self._policy()
        service = Service(policy, ServiceConfig(max_batch=self.max_batch))
        asyncio.run(_serve(Server(service, listeners, config), service))
        return 0

    def _run_replicas(self) -> int:
        """Under Ray Serve, in the native dialect."""
        from cerebella.serving.access import read_token
        from cerebella.serving.ray_serve import ScaleOptions, run
        from cerebella.serving.service import ServiceConfig

        ports = (self.vla_eval_port, self.xiaomi_port, self.xiaomi_pickle_port)
        if any(port is not None for port in ports) or self.tls_cert or self.tls_key:
            raise ValueError("--replicas serves the native dialect without TLS: leave out the other ports and --tls-*")
        assert self.replicas is not None
        source = str(Path(self.source).resolve()) if Path(self.source).exists() else self.source
        embodiment = None if self.embodiment is None else self.embodiment.resolve()
        run(
            ScaleOptions(
                load_policy=replace(self, source=source, embodiment=embodiment)._policy,
                num_replicas=self.replicas,
                max_replicas=self.max_replicas,
                max_connections=self.max_connections,
                gpus_per_replica=self.gpus_per_replica,
                host=self.host,
                port=self.port,
                token=None if self.token_file is None else read_token(self.token_file),
                service=ServiceConfig(max_batch=self.max_batch),
            )
        )
        return 0

    def _listeners(self, max_message_bytes: int) -> Mapping["Dialect", int]:
        from cerebella.serving.openpi import OpenpiDialect

        listeners: dict[Dialect, int] = {OpenpiDialect(max_message_bytes=max_message_bytes): self.port}
        if self.vla_eval_port is not None:
            from cerebella.serving.vla_eval import VlaEvalDialect

            listeners[VlaEvalDialect(execute_horizon=self.vla_eval_execute_horizon)] = self.vla_eval_port
        if self.xiaomi_port is not None:
            from cerebella.serving.xiaomi_npz import XiaomiNpzDialect

            listeners[XiaomiNpzDialect()] = self.xiaomi_port
        if self.xiaomi_pickle_port is not None:
            from cerebella.serving.xiaomi_pickle import XiaomiPickleDialect

            listeners[XiaomiPickleDialect()] = self.xiaomi_pickle_port
        return listeners

    def _policy(self) -> "Policy":
        from cerebella.embodiment import Embodiment

        robot = None if self.embodiment is None else Embodiment.load(self.embodiment)
        if self.source == HOLD:
            from cerebella.policies.hold_policy import HoldPolicy

            if robot is None:
                raise ValueError("hold needs --embodiment FILE: it stands still as that robot does")
            if self.horizon < 2:
                raise ValueError(f"horizon must be 2 rows or more; got {self.horizon}")
            return HoldPolicy(robot, self.horizon)
        if "/" not in self.source and not Path(self.source).exists():
            hint = closest(self.source, [HOLD])
            raise FileNotFoundError(
                f"there is no policy directory {self.source!r}.{hint} Give a directory, owner/name on a hub, or {HOLD}"
            )
        from cerebella.policies import load_policy

        return load_policy(
            self.source,
            embodiment=robot,
            num_flow_steps=self.num_flow_steps,
            robot_type=self.robot_type,
            device=self.device,
            engine=self.engine,
        )


async def _serve(server: "Server", service: "Service") -> None:
    """Open, warm up, say so, and wait for a signal."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await server.start()
    addresses = {dialect: server.address(dialect) for dialect in server.ports}
    for dialect, address in addresses.items():
        print(f"{dialect} at {address}, warming up", file=sys.stderr)
    warming = asyncio.create_task(service.warm_up(lambda text: print(text, file=sys.stderr)))
    signalled = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({warming, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if warming.done():
            warming.result()
            facts = {"pid": os.getpid(), "policy_id": service.metadata.policy_id, "server_id": service.server_id}
            print("ready " + json.dumps({**facts, "addresses": addresses}), flush=True)
            await signalled
        print("stopping: answering what is under way", file=sys.stderr)
    finally:
        warming.cancel()
        signalled.cancel()
        await server.stop()
