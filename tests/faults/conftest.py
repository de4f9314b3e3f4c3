from collections.abc import Iterator

import pytest

from cerebella.runtime.instruments.fault_proxy import FaultProxy
from cerebella.runtime.instruments.processes import ServerProcess
from cerebella.serving.remote_transport import RemoteTransport

from .harness import connect, make_server


@pytest.fixture(scope="session")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all the faults of the network."""
    with make_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def proxy(lasting_server: ServerProcess) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", lasting_server.port), "websocket", seed=7) as proxy:
        yield proxy


@pytest.fixture
def transport(proxy: FaultProxy) -> Iterator[RemoteTransport]:
    transport = connect(proxy)
    yield transport
    transport.close()
