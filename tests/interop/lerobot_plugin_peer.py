"""Runs under another interpreter, the one that has `lerobot`: our policy plugin as that project uses it.

python lerobot_plugin_peer.py discover
python lerobot_plugin_peer.py faults POLICY_PATH
python lerobot_plugin_peer.py act CHECKPOINT CONTENT.npz OUT.npz   a checkpoint written before, some observations
python lerobot_plugin_peer.py engine CHECKPOINT OUT.npz            the real-time engine of `lerobot-rollout`
python lerobot_plugin_peer.py learn POLICY_PATH SET                steps with its optimiser presets
python lerobot_plugin_peer.py check CHECKPOINT                     what a training run left
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def discover() -> None:
    """By LeRobot's own scan of the installed distributions, and its factories."""
    _plugin()
    factory = importlib.import_module("lerobot.policies.factory")
    config = factory.make_policy_config(
        "cerebella", device="cpu", views={"front": "base"}, gripper_ends={"g": [0.0, 90.0]}
    )
    again, told = _round_trip(config)
    found: dict[str, Any] = {
        "lerobot": importlib.import_module("lerobot").__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "config": f"{type(config).__module__}.{type(config).__name__}",
        "type": config.type,
        "policy": factory.get_policy_class("cerebella").__name__,
        "same_after_json": again == config,
        "from_words": {"views": told.views, "units": told.units, "chunk_size": told.chunk_size},
    }
    try:
        importlib.import_module("lerobot_policy_cerebella.policy_files")
    except ImportError as error:
        found["cannot_run"] = str(error)
    print(json.dumps(found))


def faults(policy_path: str) -> None:
    """What people are told who get it wrong: name of the fault -> message."""
    plugin = _plugin()
    checkpoint = importlib.import_module("lerobot_policy_cerebella.checkpoint")
    left_over = importlib.import_module("lerobot_policy_cerebella.left_over")
    torch = importlib.import_module("torch")
    robots = importlib.import_module("cerebella.embodiment")
    embodiment = robots.Embodiment.load(Path(policy_path) / "embodiment.json")
    names = ["gripper_x.pos", "gripper_y.pos", "gripper_opening.pos"]

    def make(**options: Any) -> Callable[[], object]:
        def call() -> object:
            config = plugin.CerebellaConfig(policy_path=policy_path, device="cpu", **options)
            checkpoint.fill_in(config, embodiment, (64, 96))
            return importlib.import_module("lerobot_policy_cerebella.features").FeatureMap.of(config, embodiment)

        return call

    messages = {
        "camera": _message(make(views={"front": "ego"})),
        "state": _message(make(state_feature_names=names)),
        "action": _message(make(action_feature_names=[*names, "wrist.pos"])),
        "unit": _message(make(units={"gripper_x": "deg"})),
        "normalisation": _message(make(normalization_mapping={"STATE": "MEAN_STD"})),
        "delay": _message(lambda: left_over.committed_rows(-1, None, (1, 3), 6)),
        "left_over": _message(lambda: left_over.committed_rows(2, torch.zeros(4, 5), (1, 3), 6)),
    }
    good: Any = make(
        units={"gripper_x": "mm"}, gripper_ends={"gripper_opening": [100.0, 0.0]}, action_feature_names=names[::-1]
    )()
    theirs = torch.tensor([[25.0, 0.2, 150.0]])  # opening in percent closed, y in m, x in mm
    messages["units"] = good.action.read(theirs).tolist()
    messages["units_back"] = good.action.write(good.action.read(theirs)).tolist()
    print(json.dumps(messages))


def act(checkpoint: str, content: str, out: str) -> None:
    """Chunks, the queue, and two ways to continue a chunk."""
    plugin, torch = _plugin(), importlib.import_module("torch")
    policy, before, after = _load(checkpoint)
    arrays = np.load(content)
    batch = before(_batch(arrays))
    chunk = policy.predict_action_chunk(batch)
    found = {"chunk": after(chunk), "rtc": np.array(policy.supports_rtc())}
    found["continued"] = policy.predict_action_chunk(batch, inference_delay=3, prev_chunk_left_over=chunk[:, 4:])
    short = torch.cat([chunk[:, 14:], torch.zeros(2, 6, chunk.shape[2])], dim=1)  # 2 real rows, filled as LeRobot does
    found["held"] = policy.predict_action_chunk(batch, inference_delay=4, prev_chunk_left_over=short)
    found["nothing_left"] = policy.predict_action_chunk(
        batch, inference_delay=4, prev_chunk_left_over=torch.zeros(8, 3)
    )
    found["far"] = policy.predict_action_chunk(batch, inference_delay=9, prev_chunk_left_over=chunk[:, 4:])
    policy.reset()
    policy.config.n_action_steps = 5
    found["selected"] = torch.stack([policy.select_action(batch) for _ in range(7)], dim=1)
    policy.select_action(batch)
    policy.reset()
    found["after_reset"] = policy.select_action(batch)
    policy.reset()
    found["recorded"] = _recorded(policy, arrays, before, after)
    found |= _one_episode(policy, before(_batch(arrays, slice(0, 1))), after)
    with tempfile.TemporaryDirectory() as directory:
        policy.save_pretrained(directory)
        found["again"] = plugin.CerebellaPolicy.from_pretrained(directory).predict_action_chunk(batch)
    saved: dict[str, Any] = {name: np.asarray(value) for name, value in found.items()}
    np.savez(out, **saved)


def engine(checkpoint: str, out: str) -> None:
    """`RTCInferenceEngine` against the wall clock, 30 Hz, until five chunks have been merged."""
    rtc = importlib.import_module("lerobot.rollout.inference.rtc")
    config = importlib.import_module("lerobot.policies.rtc.configuration_rtc").RTCConfig(
        enabled=True, execution_horizon=8
    )
    policy, before, after = _load(checkpoint)
    assert rtc.supports_rtc_inference(policy) if hasattr(rtc, "supports_rtc_inference") else policy.supports_rtc()
    names = ["gripper_x", "gripper_y", "gripper_opening", "belt_speed"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (4,), "names": names},
        "observation.images.base": {"dtype": "video", "shape": (64, 96, 3), "names": None},
    }
    calls: list[tuple[int, Any, Any]] = []
    predict = policy.predict_action_chunk

    def record(batch: Any, inference_delay: int, prev_chunk_left_over: Any) -> Any:
        chunk = predict(batch, inference_delay=inference_delay, prev_chunk_left_over=prev_chunk_left_over)
        calls.append((inference_delay, prev_chunk_left_over, chunk.clone()))
        return chunk

    policy.predict_action_chunk = record
    robot = importlib.import_module("lerobot.rollout.robot_wrapper").ThreadSafeRobot(_Robot())
    running = rtc.RTCInferenceEngine(
        policy, before, after, robot, config, features, "put it away", 30.0, "cpu", rtc_queue_threshold=10
    )
    running.start()
    running.resume()
    sent, end_s = [], time.monotonic() + 60.0
    while len(calls) < 6 and not running.failed and time.monotonic() < end_s:
        running.notify_observation({**dict.fromkeys(names, 0.1), "base": np.full((64, 96, 3), 90, np.uint8)})
        action = running.get_action(None)
        if action is not None:
            sent.append(action.numpy())
        time.sleep(1 / 30)
    running.stop()
    delays = [min(delay, 6) for delay, _, _ in calls]
    exact = [
        left is None or bool((chunk[0, :delay] == _filled(left, delay)).all())
        for delay, (_, left, chunk) in zip(delays, calls, strict=True)
    ]
    np.savez(out, sent=np.stack(sent), failed=running.failed, delays=delays, exact=exact)


def learn(policy_path: str, directory: str) -> None:
    """Ten steps of LeRobot's presets on one batch; the loss of the same draws before and after, and of each sample."""
    plugin, torch = _plugin(), importlib.import_module("torch")
    factory = importlib.import_module("lerobot.policies.factory")
    sets = importlib.import_module("lerobot.datasets.lerobot_dataset")
    config = plugin.CerebellaConfig(policy_path=policy_path, device="cpu", push_to_hub=False, optimizer_lr=3e-5)
    stamps = {"action": [index / 30 for index in config.action_delta_indices]}
    data = sets.LeRobotDataset("peer/set", root=directory, delta_timestamps=stamps, video_backend="pyav")
    policy = factory.make_policy(config, ds_meta=data.meta)
    before, _ = factory.make_pre_post_processors(policy_cfg=config, dataset_stats=data.meta.stats)
    batch = before(next(iter(torch.utils.data.DataLoader(data, batch_size=4))))
    batch["action"] = batch["action"] + 0.02  # something new to learn: 2 cm aside
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    config.get_scheduler_preset().build(optimizer, 2)  # builds; its first rates are too small for ten steps
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer_lr

    def loss(reduction: str = "mean") -> Any:
        torch.manual_seed(0)
        return policy.forward(batch, reduction=reduction)[0].detach()

    losses = [float(loss())]
    each = loss("none")
    for _ in range(10):
        torch.manual_seed(0)
        policy.train()
        policy.forward(batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        losses.append(float(loss()))
    print(
        json.dumps(
            {
                "losses": losses,
                "each": each.tolist(),
                "names": policy.config.action_feature_names,
                "num_steps": int(policy.num_steps),
                "frozen": sorted({n.split(".")[-2] for n, p in policy.named_parameters() if not p.requires_grad}),
            }
        )
    )


def check(checkpoint: str) -> None:
    """Load what `lerobot-train` wrote, and make a policy directory of it."""
    plugin = _plugin()
    policy = plugin.CerebellaPolicy.from_pretrained(checkpoint)
    importlib.import_module("lerobot_policy_cerebella.export").export(checkpoint, Path(checkpoint).parent / "exported")
    print(json.dumps({"num_steps": int(policy.num_steps), "max_prefix": policy.max_prefix}))


class _Robot:
    """As much of a robot as the engine looks at."""

    def __init__(self) -> None:
        self.name = self.robot_type = "conveyor"
        self.action_features = dict.fromkeys(("gripper_x", "gripper_y", "gripper_opening"), float)
        self.observation_features: dict[str, Any] = {}
        self.is_connected = True


def _recorded(policy: Any, arrays: Any, before: Any, after: Any) -> Any:
    """What `lerobot-record` (0.4.4) sends for the first observation: `predict_action` of its control loop."""
    torch, names = importlib.import_module("torch"), ("lerobot.common.control_utils", "lerobot.utils.control_utils")
    control = importlib.import_module(next(name for name in names if _exists(name)))
    frame = {"observation.state": arrays["state"][0], "observation.images.base": arrays["image"][0]}
    task = str(arrays["task"][0])
    return control.predict_action(frame, policy, torch.device("cpu"), before, after, use_amp=False, task=task)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent
        return False


def _one_episode(policy: Any, batch: Any, after: Any) -> dict[str, Any]:
    """LeRobot's action queue, three actions sent during every inference: what is sent, and from which chunk it could be."""
    config = importlib.import_module("lerobot.policies.rtc.configuration_rtc").RTCConfig(
        enabled=True, execution_horizon=8
    )
    queue = importlib.import_module("lerobot.policies.rtc.action_queue").ActionQueue(config)
    sent, promised = [], []
    for _ in range(4):
        index, left = queue.get_action_index(), queue.get_left_over()
        delay = 0 if left is None else 3
        chunk = policy.predict_action_chunk(batch, inference_delay=delay, prev_chunk_left_over=left)
        promised += list(chunk[0, :delay])
        meanwhile = [queue.get() for _ in range(delay)]
        sent += meanwhile
        queue.merge(chunk.squeeze(0).clone(), after(chunk).squeeze(0), delay, index)
        for _ in range(4):
            queue.get()
    return {"meanwhile": np.stack(sent), "promised": np.stack(promised)}


def _filled(left: Any, delay: int) -> Any:
    """The first rows of a left-over, its last real one repeated."""
    torch = importlib.import_module("torch")
    num = int(left.ne(0).any(dim=-1).sum())
    return left[torch.arange(delay).clamp(max=max(num - 1, 0))] if num else left[:0]


def _round_trip(config: Any) -> tuple[Any, Any]:
    """A config through its JSON file, and one from words of a command line."""
    draccus = importlib.import_module("draccus")
    base = importlib.import_module("lerobot.configs.policies").PreTrainedConfig
    with tempfile.TemporaryDirectory() as directory:
        config._save_pretrained(Path(directory))
        again = base.from_pretrained(directory)
    words = ['--views={"wrist": "left_wrist"}', "--units={gripper_x: mm}", "--chunk_size=16", "--device=cpu"]
    return again, draccus.parse(type(config), args=words)


def _load(checkpoint: str) -> tuple[Any, Any, Any]:
    """A policy and its two pipelines, as LeRobot's scripts load them."""
    plugin = _plugin()
    factory = importlib.import_module("lerobot.policies.factory")
    policy = plugin.CerebellaPolicy.from_pretrained(checkpoint)
    overrides = {"device_processor": {"device": "cpu"}, "rename_observations_processor": {"rename_map": {}}}
    before, after = factory.make_pre_post_processors(
        policy_cfg=policy.config, pretrained_path=checkpoint, preprocessor_overrides=overrides
    )
    return policy, before, after


def _batch(arrays: Any, rows: slice = slice(None)) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    return {
        "observation.state": torch.from_numpy(arrays["state"][rows]),
        "observation.images.base": torch.from_numpy(arrays["image"][rows]).permute(0, 3, 1, 2).float() / 255,
        "task": [str(task) for task in arrays["task"][rows]],
    }


def _message(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "no error"


def _plugin() -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    importlib.import_module("lerobot.utils.import_utils").register_third_party_plugins()
    return sys.modules["lerobot_policy_cerebella"]


if __name__ == "__main__":
    commands = (discover, faults, act, engine, learn, check)
    {command.__name__: command for command in commands}[sys.argv[1]](*sys.argv[2:])
