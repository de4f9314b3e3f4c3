"""`cerebella serve`: the real process, and the shipped policy over a wire."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.cli.serve import Serve
from cerebella.envs.registry import make_environment
from cerebella.policies import load_policy
from cerebella.serving.background import BackgroundServer
from cerebella.serving.client import RemotePolicy
from cerebella.serving.openpi import OpenpiDialect
from cerebella.serving.service import ServiceConfig

SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"
PROGRAM = "import sys, tyro; from cerebella.cli.serve import Serve; sys.exit(tyro.cli(Serve, args=sys.argv[1:]).run())"


def started(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The facts of the line that says so."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready "), process.communicate()
    return json.loads(line.removeprefix("ready "))


def test_the_process_serves_until_a_signal(tmp_path: Path) -> None:
    robot = make_environment("dynamic/conveyor")
    robot.reset(0)
    robot.embodiment.save(tmp_path / "embodiment.json")
    process = started("hold", "--embodiment", str(tmp_path / "embodiment.json"), "--port", "0", "--horizon", "4")
    try:
        facts = ready(process)
        assert (facts["pid"], facts["policy_id"]) == (process.pid, "zero")
        with RemotePolicy(facts["addresses"]["openpi"]) as policy:
            assert policy.first_frame["server_id"] == facts["server_id"]
            observation = robot.observe()
            nothing = np.zeros((0, robot.embodiment.action_dim), dtype=np.float32)
            chunk = policy.infer(observation, nothing)
            assert chunk.horizon == 4
            assert np.array_equal(chunk.actions[0], robot.embodiment.hold(observation, None).values)
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert "openpi at ws://127.0.0.1:" in said
        assert "stopping" in said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_the_shipped_policy_answers_over_the_wire_as_it_does_here(engine: Any) -> None:
    local = load_policy(SHIPPED, engine=engine)
    robot = make_environment("dynamic/conveyor")
    robot.reset(3)
    observation = robot.observe()
    served = BackgroundServer(local, {OpenpiDialect(): 0}, service_config=ServiceConfig(max_batch=2))
    with served as server, RemotePolicy(server.address()) as remote:
        assert remote.metadata == local.metadata
        nothing = np.zeros((0, robot.embodiment.action_dim), dtype=np.float32)
        first = remote.infer(observation, nothing)
        assert np.array_equal(first.actions, local.infer(observation, nothing).actions)
        prefix = first.actions[:3].copy()
        assert np.array_equal(remote.infer(observation, prefix).actions, local.infer(observation, prefix).actions)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"source": "hold"}, ValueError, "hold needs --embodiment FILE"),
        ({"source": "holt"}, FileNotFoundError, "no policy directory 'holt'. Did you mean 'hold'"),
        ({"source": "hold", "host": "0.0.0.0"}, ValueError, "set a token"),
        ({"source": "hold", "tls_cert": Path("x.pem")}, ValueError, "hold needs"),
        ({"source": "hold", "token_file": Path("none")}, FileNotFoundError, "none"),
    ],
)
def test_mistakes_are_found_before_anything_is_open(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Serve(**options).run()
