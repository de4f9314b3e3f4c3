"""Our policy plugin in LeRobot: found, configured, loaded, asked, trained and run in real time by that project's own code.

Needs an interpreter with `lerobot` and `lerobot_policy_cerebella` in the environment variable CEREBELLA_LEROBOT_PYTHON. What
needs the model in LeRobot's process is skipped where LeRobot does not admit our Transformers (0.4.4, Python 3.11); there the
policy is asked through a server.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.policies import VLAPolicy, load_policy
from cerebella.serving.background import BackgroundServer
from cerebella.serving.openpi import OpenpiDialect
from cerebella.types import Observation
from tests.recipes.fine_tune.conveyor_set import SHIPPED, write_set

PEER = os.environ.get("CEREBELLA_LEROBOT_PYTHON", "")
ROOT = Path(__file__).parents[2]
HORIZON = 16
ROUNDING = 2e-5
"""Between two versions of torch: metres, and gripper openings."""

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(900),  # importing lerobot takes ten seconds on a quiet machine
    pytest.mark.skipif(not PEER, reason="CEREBELLA_LEROBOT_PYTHON names no interpreter with lerobot"),
]


def run(*words: str) -> str:
    variables = {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
    }
    done = subprocess.run([PEER, *words], capture_output=True, text=True, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def peer(*words: str) -> str:
    return run(str(Path(__file__).with_name("lerobot_plugin_peer.py")), *words)


def write_checkpoint(directory: Path, *words: str) -> Path:
    where = [f"--output_dir={directory}", "--policy.type=cerebella", "--policy.device=cpu"]
    size = ["--image_height=64", "--image_width=96"]
    assert run("-m", "lerobot_policy_cerebella.checkpoint", *where, *size, *words).split()[-1] == str(directory)
    return directory


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return json.loads(peer("discover").splitlines()[-1])


@pytest.fixture(scope="module")
def can_run(found: dict[str, Any]) -> None:
    if "cannot_run" in found:
        pytest.skip(f"lerobot {found['lerobot']} cannot run the model in its process: {found['cannot_run']}")


@pytest.fixture(scope="module")
def policy() -> VLAPolicy:
    return load_policy(SHIPPED)


@pytest.fixture(scope="module")
def server(policy: VLAPolicy) -> Iterator[str]:
    with BackgroundServer(policy, {OpenpiDialect(): 0}) as running:
        yield running.address()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("content") / "content.npz"
    random = np.random.default_rng(0)
    np.savez(
        path,
        state=np.array([[0.2, 0.1, 1.0, 0.1], [0.3, 0.2, 0.0, 0.05]], dtype=np.float32),
        image=random.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8),
        task=np.array(["pick up the red block", "pick up the blue block"]),
    )
    return path


@pytest.fixture(scope="module", params=["server", "process"])
def acted(
    request: pytest.FixtureRequest, content: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, np.ndarray]:
    """What LeRobot got from the plugin: from a server, and with the model in its own process."""
    if request.param == "process":
        request.getfixturevalue("can_run")
        source = f"--policy.policy_path={SHIPPED}"
    else:
        source = f"--policy.server_url={request.getfixturevalue('server')}"
    directory = tmp_path_factory.mktemp(request.param)
    checkpoint = write_checkpoint(directory / "checkpoint", source)
    peer("act", str(checkpoint), str(content), str(directory / "out.npz"))
    return np.load(directory / "out.npz")


def test_lerobot_finds_the_plugin(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nplugin in lerobot {found['lerobot']}, Python {found['python']}")
    assert found["config"] == "lerobot_policy_cerebella.configuration_cerebella.CerebellaConfig"
    assert (found["type"], found["policy"]) == ("cerebella", "CerebellaPolicy")
    assert found["same_after_json"]
    assert found["from_words"] == {"views": {"wrist": "left_wrist"}, "units": {"gripper_x": "mm"}, "chunk_size": 16}


def test_an_environment_that_cannot_run_the_model_says_what_to_do(found: dict[str, Any]) -> None:
    if "cannot_run" not in found:
        pytest.skip("this one can")
    words = ["--policy.type=cerebella", f"--policy.policy_path={SHIPPED}", "--output_dir=nowhere"]
    with pytest.raises(AssertionError, match=r"(?s)needs transformers>=5\.23.*cerebella serve POLICY.*server_url"):
        run("-m", "lerobot_policy_cerebella.checkpoint", *words)


def test_lerobot_gets_the_chunks_that_we_get(acted: Mapping[str, np.ndarray], policy: VLAPolicy, content: Path) -> None:
    arrays, nothing = np.load(content), np.zeros((0, 3), dtype=np.float32)
    for row, chunk in enumerate(acted["chunk"]):
        observation = Observation(
            state=arrays["state"][row],
            prompt=str(arrays["task"][row]),
            tick=0,
            timestamp_s=0.0,
            images={"base": arrays["image"][row]},
        )
        np.testing.assert_allclose(chunk, policy.infer(observation, nothing).actions, atol=ROUNDING)


def test_a_saved_policy_acts_alike(acted: Mapping[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(acted["again"], acted["chunk"])


def test_the_first_rows_of_the_left_over_come_back(acted: Mapping[str, np.ndarray]) -> None:
    chunk, continued = acted["chunk"], acted["continued"]
    assert acted["rtc"]
    assert continued.shape == (2, HORIZON, 3)
    np.testing.assert_array_equal(continued[:, :3], chunk[:, 4:7])
    assert (continued[:, 3:12] != chunk[:, 7:]).any()
    np.testing.assert_array_equal(acted["far"][:, :6], chunk[:, 4:10])  # trained for 6 of the 9


def test_filling_is_not_taken_for_targets(acted: Mapping[str, np.ndarray]) -> None:
    last = acted["chunk"][:, 14:]
    np.testing.assert_array_equal(acted["held"][:, :4], last[:, [0, 1, 1, 1]])
    np.testing.assert_array_equal(acted["nothing_left"], acted["chunk"])


def test_the_queue_of_select_action(acted: Mapping[str, np.ndarray]) -> None:
    chunk = acted["chunk"]
    np.testing.assert_array_equal(acted["selected"], chunk[:, [0, 1, 2, 3, 4, 0, 1]])
    np.testing.assert_array_equal(acted["after_reset"], chunk[:, 0])


def test_the_control_loop_of_lerobot_record(acted: Mapping[str, np.ndarray]) -> None:
    np.testing.assert_allclose(acted["recorded"].reshape(3), acted["chunk"][0, 0], atol=ROUNDING)


def test_what_is_sent_during_an_inference_is_what_was_promised(acted: Mapping[str, np.ndarray]) -> None:
    assert acted["meanwhile"].shape == (9, 3)
    np.testing.assert_array_equal(acted["meanwhile"], acted["promised"])


def test_mistakes_are_explained() -> None:
    told = json.loads(peer("faults", str(SHIPPED)).splitlines()[-1])
    assert "'conveyor' has no view 'ego'; its views: base" in told["camera"]
    assert "observation.state lacks belt_speed; its entries: gripper_x.pos" in told["state"]
    assert "entries that 'conveyor' does not have: wrist" in told["action"]
    assert "'gripper_x' is in m; from 'deg' there is no way; known: mm, cm" in told["unit"]
    assert "STATE must be IDENTITY" in told["normalisation"]
    assert "0 or more rows; got -1" in told["delay"]
    assert "float[T, 3] or float[1, T, 3]; got [4, 5]" in told["left_over"]
    np.testing.assert_allclose(told["units"], [[0.15, 0.2, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(told["units_back"], [[25.0, 0.2, 150.0]], rtol=1e-6)


@pytest.mark.usefixtures("can_run")
def test_the_real_time_engine(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", f"--policy.policy_path={SHIPPED}")
    peer("engine", str(checkpoint), str(tmp_path / "out.npz"))
    ran = np.load(tmp_path / "out.npz")
    assert not ran["failed"]
    assert len(ran["exact"]) >= 6
    assert ran["exact"].all()
    assert max(ran["delays"]) > 0
    assert np.isfinite(ran["sent"]).all()


@pytest.mark.usefixtures("can_run")
def test_it_learns_with_the_presets(tmp_path: Path) -> None:
    told = json.loads(peer("learn", str(SHIPPED), str(write_set(tmp_path / "belt"))).splitlines()[-1])
    assert told["losses"][-1] < told["losses"][0]
    assert told["num_steps"] == 10
    assert told["names"] == ["gripper_x", "gripper_y", "gripper_opening"]
    assert len(told["each"]) == 4
    assert min(told["each"]) > 0


@pytest.mark.usefixtures("can_run")
def test_lerobot_train_writes_a_checkpoint_that_becomes_a_policy_directory(tmp_path: Path) -> None:
    data, out = write_set(tmp_path / "belt"), tmp_path / "out"
    options = {
        "policy.type": "cerebella",
        "policy.policy_path": SHIPPED,
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.max_prefix": 8,
        "dataset.repo_id": "peer/set",
        "dataset.root": data,
        "dataset.video_backend": "pyav",
        "output_dir": out,
        "steps": 3,
        "save_freq": 2,
        "batch_size": 4,
        "num_workers": 0,
    }
    run("-m", "lerobot.scripts.lerobot_train", *[f"--{name}={value}" for name, value in options.items()])
    checkpoint = out / "checkpoints" / "last" / "pretrained_model"
    run(
        "-m",
        "lerobot.scripts.lerobot_train",
        f"--config_path={checkpoint / 'train_config.json'}",
        "--resume=true",
        "--steps=5",
    )
    checkpoint = out / "checkpoints" / "last" / "pretrained_model"
    assert json.loads(peer("check", str(checkpoint)).splitlines()[-1]) == {"num_steps": 5, "max_prefix": 8}
    exported = load_policy(checkpoint.resolve().parent / "exported")
    assert exported.metadata.max_trained_prefix == 8
    assert exported.metadata.statistics_hash == load_policy(SHIPPED).metadata.statistics_hash
