"""Runs under another interpreter, the one that has `openpi-client`: openpi's own client, and its own server.

python openpi_peer.py versions
python openpi_peer.py ask URL         LIBERO observations through WebsocketClientPolicy and ActionChunkBroker; a JSON line
python openpi_peer.py serve FILE.py   openpi's WebsocketPolicyServer from its source file; prints its port
"""

import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from typing import Any

import numpy as np

STATE = np.linspace(-0.5, 0.5, 8)
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def versions() -> None:
    names = ("openpi-client", "websockets", "msgpack", "numpy")
    print(json.dumps({name: importlib.metadata.version(name) for name in names}))


def observation(offset: float = 0.0) -> dict[str, Any]:
    return {
        "observation/image": PIXELS,
        "observation/wrist_image": PIXELS,
        "observation/state": STATE + offset,
        "prompt": "Go.",
    }


def ask(url: str) -> None:
    client_module = importlib.import_module("openpi_client.websocket_client_policy")
    broker_module = importlib.import_module("openpi_client.action_chunk_broker")
    policy = client_module.WebsocketClientPolicy(url)
    answers = [policy.infer(observation(offset)) for offset in (0.0, 1.0)]
    broker = broker_module.ActionChunkBroker(policy, action_horizon=2)
    rows = [broker.infer(observation(offset))["actions"].tolist() for offset in (2.0, 3.0, 4.0)]
    try:
        policy.infer({**observation(), "observation/state": STATE[:3]})
        error = ""
    except RuntimeError as raised:
        error = str(raised)
    metadata = policy.get_server_metadata()
    print(
        json.dumps(
            {
                "client_file": client_module.__file__,
                "actions": [answer["actions"].tolist() for answer in answers],
                "timing": sorted(answers[1]["server_timing"]),
                "rows": rows,
                "error": error,
                "policy_id": metadata["policy_id"],
                "horizon": metadata["horizon"],
            }
        )
    )


def serve(source: str) -> None:
    spec = importlib.util.spec_from_file_location("websocket_policy_server", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Echo:
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            assert obs["prompt"] == "Go."
            assert obs["observation/image"].shape == PIXELS.shape
            return {"actions": np.asarray(obs["observation/state"])[:7] + np.arange(6.0)[:, None]}

    async def run() -> None:
        server = module.WebsocketPolicyServer(Echo(), "127.0.0.1", 0, {"robot": "libero"})
        opened = module._server.serve(
            server._handler, "127.0.0.1", 0, compression=None, max_size=None, process_request=module._health_check
        )
        async with opened as listening:
            print(listening.sockets[0].getsockname()[1], flush=True)
            await listening.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    {"versions": versions, "ask": ask, "serve": serve}[sys.argv[1]](*sys.argv[2:])
