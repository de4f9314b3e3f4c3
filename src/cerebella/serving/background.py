"""A server on a thread of this process: for tests, benches and notebooks."""

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType

from cerebella.interfaces import Policy
from cerebella.serving.dialect import Dialect
from cerebella.serving.server import Server, ServerConfig
from cerebella.serving.service import Service, ServiceConfig

_START_TIMEOUT_S = 60.0


class BackgroundServer:
    """Serves while the `with` block runs; the block begins when the policy is warm.

    Args:
        policy, listeners, config, service_config: see `Server` and `Service`.
        wait_until_warm: False begins the block as soon as the ports are open.

    Attributes:
        service, server: to look at from the block; their coroutines belong to the server's thread.
    """

    def __init__(
        self,
        policy: Policy,
        listeners: Mapping[Dialect, int],
        config: ServerConfig | None = None,
        service_config: ServiceConfig | None = None,
        wait_until_warm: bool = True,
    ) -> None:
        self.service = Service(policy, service_config)
        self.server = Server(self.service, listeners, config)
        self._must_be_warm = wait_until_warm
        self._is_open = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="cerebella-server", daemon=True)

    def __enter__(self) -> "BackgroundServer":
        self._thread.start()
        if not self._is_open.wait(_START_TIMEOUT_S):
            raise TimeoutError(f"the server was not open within {_START_TIMEOUT_S:g} s")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def address(self, dialect: str = "openpi") -> str:
        """Where clients connect to."""
        return self.server.address(dialect)

    def stop(self) -> None:
        """Drain and end; may be called twice."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed over to the thread that waits in __enter__
            self._failure = error
        finally:
            self._is_open.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self.server.start()
        if not self._must_be_warm:
            self._is_open.set()
        warming = asyncio.create_task(self.service.warm_up())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if warming.done():
                warming.result()
                self._is_open.set()
                await stopping
        finally:
            warming.cancel()
            stopping.cancel()
            await self.server.stop()
