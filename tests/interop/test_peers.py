"""Other projects' own clients and servers against ours, over loopback.

Interpreters: CEREBELLA_OPENPI_PYTHON (with `openpi-client` 0.1.2) and CEREBELLA_VLA_EVAL_PYTHON (with `vla-eval` 0.8.0).
Checkouts: CEREBELLA_OPENPI_SOURCE (Physical-Intelligence/openpi), CEREBELLA_XR0_SOURCE (XiaomiRobotics/Xiaomi-Robotics-0),
CEREBELLA_XR1_SOURCE (XiaomiRobotics/Xiaomi-Robotics-1). A test whose variable is not set is skipped.
"""

import importlib.util
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cerebella.serving.background import BackgroundServer
from cerebella.serving.client import RemotePolicy
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.vla_eval import VlaEvalDialect
from cerebella.serving.xiaomi_npz import XiaomiNpzDialect
from cerebella.serving.xiaomi_pickle import XiaomiPickleDialect
from cerebella.types import Observation
from tests.serving.echo import HORIZON, PIXELS, STATE, EchoPolicy, expected_actions

pytestmark = pytest.mark.interop

PEERS = Path(__file__).with_name("peers")


def variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        pytest.skip(f"{name} is not set")
    return value


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "", **environment}, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


@pytest.fixture
def policy() -> EchoPolicy:
    return EchoPolicy()


# openpi


@pytest.mark.parametrize("origin", ["PyPI", "repository"])
def test_openpis_client_asks_our_server(origin: str, policy: EchoPolicy, capsys: pytest.CaptureFixture[str]) -> None:
    python = variable("CEREBELLA_OPENPI_PYTHON")
    path = f"{variable('CEREBELLA_OPENPI_SOURCE')}/packages/openpi-client/src" if origin == "repository" else ""
    with BackgroundServer(policy, {OpenpiDialect(): 0}) as server:
        done = run(python, str(PEERS / "openpi_peer.py"), "ask", server.address("openpi"), PYTHONPATH=path)
    got = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(
            f"\nopenpi's client from {origin}; {run(python, str(PEERS / 'openpi_peer.py'), 'versions').stdout.strip()}"
        )
    assert got["client_file"].startswith(path) if path else "site-packages" in got["client_file"]
    for offset, actions in enumerate(got["actions"]):
        np.testing.assert_allclose(actions, expected_actions(STATE + offset), atol=1e-6)
    chunk = expected_actions(STATE + 2)  # openpi's broker asks again after two rows
    np.testing.assert_allclose(got["rows"], [chunk[0], chunk[1], expected_actions(STATE + 4)[0]], atol=1e-6)
    assert {"infer_ms", "prev_total_ms"} <= set(got["timing"])
    assert "float32[8]" in got["error"]
    assert "Traceback (most recent call last)" not in got["error"]
    assert (got["policy_id"], got["horizon"]) == ("echo", HORIZON)


@pytest.fixture
def openpi_server() -> Iterator[str]:
    source = Path(variable("CEREBELLA_OPENPI_SOURCE"), "src/openpi/serving/websocket_policy_server.py")
    words = (variable("CEREBELLA_OPENPI_PYTHON"), str(PEERS / "openpi_peer.py"), "serve", str(source))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}) as process:
        try:
            assert process.stdout is not None
            yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def test_our_client_asks_openpis_server(openpi_server: str, policy: EchoPolicy) -> None:
    keys = {
        "images/base": "observation/image",
        "images/left_wrist": "observation/wrist_image",
        "state": "observation/state",
        "prompt": "prompt",
    }
    images = {"base": PIXELS, "left_wrist": PIXELS}
    with RemotePolicy(openpi_server, metadata=policy.metadata, keys=keys) as remote:
        assert remote.first_frame["robot"] == "libero"
        for tick in range(2):
            observation = Observation(STATE + tick, "Go.", tick, 0.0, images)
            chunk = remote.infer(observation, np.zeros((0, 7), dtype=np.float32))
            np.testing.assert_allclose(chunk.actions, expected_actions(STATE + tick), atol=1e-6)
            assert chunk.start_tick == tick
        with pytest.raises(RuntimeError, match="AssertionError"):
            remote.infer(Observation(STATE, "Stop.", 0, 0.0, images), np.zeros((0, 7), dtype=np.float32))


# vla-evaluation-harness


@pytest.mark.parametrize("mode", ["sync", "live"])
def test_the_harness_runs_episodes_against_our_server(
    mode: str, policy: EchoPolicy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = variable("CEREBELLA_VLA_EVAL_PYTHON")
    with BackgroundServer(policy, {VlaEvalDialect(execute_horizon=4): 0}) as server:
        benchmark = {
            "benchmark": "counting_benchmark:CountingBenchmark",
            "mode": mode,
            "episodes_per_task": 2,
            "params": {"max_age": 3} if mode == "live" else {},
            **({"hz": 10.0} if mode == "live" else {}),
        }
        config = {"server": {"url": server.address("vla_eval")}, "output_dir": str(tmp_path), "benchmarks": [benchmark]}
        (tmp_path / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        words = ("-m", "vla_eval.cli.main", "run", "--no-docker", "--yes", "-c", str(tmp_path / "config.yaml"), "-v")
        done = run(python, *words, PYTHONPATH=str(PEERS))
    log = done.stdout + done.stderr
    assert "Spec validation passed" in log, log[-3000:]
    with capsys.disabled():
        print(f"\nvla-eval {mode}: {[line for line in log.splitlines() if 'success' in line.lower()][-1:]}")
    num_inferences = len([1 for seen, _ in policy.asked if seen.prompt.startswith("Count")])
    assert num_inferences == 4 * 20 / 4 if mode == "sync" else num_inferences >= 4
    results = [json.loads(file.read_text()) for file in tmp_path.rglob("*.json")]
    episodes = [episode for result in results for task in result.get("tasks", []) for episode in task["episodes"]]
    assert len(episodes) == 4
    assert all(episode["metrics"]["success"] for episode in episodes), episodes


# Xiaomi


def client_class(monkeypatch: pytest.MonkeyPatch, source: str) -> Any:
    """`Client` of a released `deploy/client.py`; torchvision, which it imports and does not use, is stood in for."""
    import_module("transformers").AutoProcessor  # noqa: B018 - imported before it could take the stand-in for the package
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            module = types.ModuleType(name)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(
            sys.modules["torchvision"], "transforms", sys.modules["torchvision.transforms"], raising=False
        )
        functional = sys.modules["torchvision.transforms.functional"]
        monkeypatch.setattr(sys.modules["torchvision.transforms"], "functional", functional, raising=False)
    spec = importlib.util.spec_from_file_location("released_client", Path(source, "deploy", "client.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Client


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def test_the_released_client_of_xiaomi_robotics_0(policy: EchoPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    released = client_class(monkeypatch, variable("CEREBELLA_XR0_SOURCE"))
    with BackgroundServer(policy, {XiaomiPickleDialect(): 0}) as server:
        client = released(*host_and_port(server.address("xiaomi_pickle")))
        for step in range(2):
            # as eval_libero/main.py: state float64[32], two PIL images, the seed of the noise
            state = np.concatenate([STATE.astype(np.float64) + step, np.array([0.0] * 24)])
            pictures = {"base": Image.fromarray(PIXELS), "wrist_left": Image.fromarray(PIXELS)}
            chunk = client(task_id="libero_all", state=state, **pictures, language="Go.", seed=2**32 - 1)[0, :, :-1]
            rows = chunk[0:4, 0:7]
            np.testing.assert_array_equal([row.tolist() for row in rows], expected_actions(STATE + step)[:4])
            np.testing.assert_array_equal(chunk[:4, :7].cpu().numpy(), expected_actions(STATE + step)[:4])
        client.close()


def test_the_released_client_of_xiaomi_robotics_1(policy: EchoPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its framing and its reader, with our keys: it has no processor here, and needs none."""
    released = client_class(monkeypatch, variable("CEREBELLA_XR1_SOURCE"))
    with BackgroundServer(policy, {XiaomiNpzDialect(): 0}) as server:
        client = released(*host_and_port(server.address("xiaomi_npz")))
        observation = {"image/base": PIXELS, "image/left_wrist": PIXELS, "state": STATE, "prompt": "Go."}
        client._send_with_length_prefix({**observation, "task_id": "libero_all", "seed": 7})
        actions = client._recv_with_length_prefix()
        np.testing.assert_array_equal(actions.numpy(), expected_actions(STATE)[None])
        client.close()
