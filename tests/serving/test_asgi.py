"""The ASGI application, driven by hand: every event in and out is in the test."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from cerebella.interfaces import Policy
from cerebella.runtime.instruments.tagged import make_observation
from cerebella.serving.arrays import unpack
from cerebella.serving.asgi import AsgiApp
from cerebella.serving.exchange import request_message
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.server import ServerConfig
from cerebella.serving.service import Service
from cerebella.types import ActionChunk, FloatArray, Observation
from tests.serving.fleet_policy import ProcessPolicy

NO_PREFIX = np.zeros((0, 4), dtype=np.float32)
TOKEN = "a-long-token"
TIMEOUT_S = 20.0


class Wire:
    """Both ends of one ASGI connection, as queues."""

    def __init__(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.ensure_future(app(scope, self.coming.get, self._send))

    async def _send(self, event: Any) -> None:
        await self.sent.put(event)

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.sent.get(), TIMEOUT_S)

    async def ask(self, seq: int) -> None:
        await self.coming.put(
            {"type": "websocket.receive", "bytes": request_message(seq, make_observation(seq, 0.5), NO_PREFIX)}
        )


def websocket(app: AsgiApp, *headers: tuple[bytes, bytes], extensions: dict[str, Any] | None = None) -> Wire:
    wire = Wire(app, {"type": "websocket", "path": "/", "headers": headers, "extensions": extensions or {}})
    wire.coming.put_nowait({"type": "websocket.connect"})
    return wire


async def get(app: AsgiApp, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, str]:
    wire = Wire(app, {"type": "http", "path": path, "headers": headers})
    start, body = await wire.next(), await wire.next()
    await wire.task
    return start["status"], body["body"].decode()


def run(
    scenario: Callable[[AsgiApp], Awaitable[None]], policy: Policy | None = None, config: ServerConfig | None = None
) -> None:
    """Start as an outer server does, play, end."""

    async def main() -> None:
        app = AsgiApp(Service(policy or ProcessPolicy()), OpenpiDialect(), config or ServerConfig())
        assert await get(app, "/healthz") == (503, "warming up\n")
        life = Wire(app, {"type": "lifespan"})
        await life.coming.put({"type": "lifespan.startup"})
        assert (await life.next())["type"] == "lifespan.startup.complete"
        await asyncio.wait_for(scenario(app), TIMEOUT_S)
        await life.coming.put({"type": "lifespan.shutdown"})
        assert (await life.next())["type"] == "lifespan.shutdown.complete"

    asyncio.run(main())


def test_a_session() -> None:
    async def scenario(app: AsgiApp) -> None:
        wire = websocket(app)
        assert await wire.next() == {"type": "websocket.accept"}
        assert unpack((await wire.next())["bytes"])["policy_id"] == "tagged"
        for seq in range(3):
            await wire.ask(seq)
            answer = unpack((await wire.next())["bytes"])
            assert answer["seq"] == seq
            assert answer["actions"][0, 2] == seq
        await wire.coming.put({"type": "websocket.disconnect", "code": 1000})
        await wire.task
        assert app.num_peers == 0

    run(scenario)


def test_health_and_metrics() -> None:
    async def scenario(app: AsgiApp) -> None:
        key = (b"authorization", f"Bearer {TOKEN}".encode())
        assert await get(app, "/healthz") == (200, "OK\n")
        assert (await get(app, "/metrics"))[0] == 401
        assert "cerebella_ready 1.0" in (await get(app, "/metrics", key))[1]
        assert (await get(app, "/nothing", key))[0] == 404

    run(scenario, config=ServerConfig(token=TOKEN))


def test_who_may_not_connect() -> None:
    async def scenario(app: AsgiApp) -> None:
        key = (b"authorization", f"Api-Key {TOKEN}".encode())
        assert (await websocket(app).next())["type"] == "websocket.close"
        assert (await websocket(app, key, (b"origin", b"http://a.page")).next())["type"] == "websocket.close"
        refused = await websocket(app, extensions={"websocket.http.response": {}}).next()
        assert (refused["type"], refused["status"]) == ("websocket.http.response.start", 401)
        first = websocket(app, key)
        assert (await first.next())["type"] == "websocket.accept"
        busy = await websocket(app, key, extensions={"websocket.http.response": {}}).next()
        assert busy["status"] == 503
        first.task.cancel()

    run(scenario, config=ServerConfig(token=TOKEN, max_connections=1))


def test_a_message_that_is_too_large_ends_the_session() -> None:
    async def scenario(app: AsgiApp) -> None:
        wire = websocket(app)
        await wire.next()
        await wire.next()
        await wire.coming.put({"type": "websocket.receive", "bytes": bytes(2000)})
        assert (await wire.next())["code"] == 1009
        await wire.task

    run(scenario, config=ServerConfig(max_message_bytes=1000))


class SlowPolicy(ProcessPolicy):
    """Answers when it is told to, once armed."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.released = threading.Event(), threading.Event()
        self.is_armed = False

    def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:
        if self.is_armed:
            self.begun.set()
            self.released.wait(TIMEOUT_S)
        return super().infer_batch(observations, prefixes)


def test_closed_sessions_get_the_answer_that_is_under_way_and_new_ones_are_served() -> None:
    policy = SlowPolicy()

    async def scenario(app: AsgiApp) -> None:
        wire = websocket(app)
        await wire.next()
        await wire.next()
        policy.is_armed = True
        await wire.ask(7)
        await asyncio.to_thread(policy.begun.wait, TIMEOUT_S)
        app.close_sessions()
        await asyncio.sleep(0)  # the session has seen it before the answer comes
        policy.released.set()
        assert unpack((await wire.next())["bytes"])["seq"] == 7
        assert (await wire.next())["code"] == 1001
        await wire.task
        again = websocket(app)
        assert (await again.next())["type"] == "websocket.accept"
        await again.next()
        await again.ask(8)
        assert unpack((await again.next())["bytes"])["seq"] == 8
        again.task.cancel()

    run(scenario, policy)


class BrokenPolicy(ProcessPolicy):
    def infer_batch(self, observations: list[Observation], prefixes: list[FloatArray]) -> list[ActionChunk]:
        raise OSError("no weights")


def test_a_policy_that_cannot_warm_up_does_not_start() -> None:
    async def main() -> None:
        life = Wire(AsgiApp(Service(BrokenPolicy()), OpenpiDialect(), ServerConfig()), {"type": "lifespan"})
        await life.coming.put({"type": "lifespan.startup"})
        failed = await life.next()
        assert failed == {"type": "lifespan.startup.failed", "message": "OSError: no weights"}

    asyncio.run(main())
