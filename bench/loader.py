"""Samples per CPU-second: our loader against LeRobotDataset in random order, on the same videos with the same window.

With `--lerobot-python PATH` (an interpreter that has the `lerobot` package) the peer is LeRobotDataset; without it the peer is the obvious loader, written here: open the video, seek, decode one frame, for every sample
and camera (`plain_pyav`). Sides take turns, each on one thread; CPU time of the whole process counts, and the medians are
compared, with the 95 % interval of their ratio over the rounds. Our side includes everything: reading columns, decoding,
shuffling, making checked samples.

Prints one JSON object as the last line.
"""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import tyro
from measure.timing import ratio

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import LeRobotWriter
from cerebella.data.loader import Loader
from cerebella.data.mapping import DatasetMap
from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.slices import Slice
from cerebella.data.sources import RobotSource
from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.types import FloatArray, ImageArray

FPS, ACTION_DIM = 30, 14
CAMERAS = ("observation.images.base", "observation.images.wrist")

_PEER = """
import json, sys, time
import torch
torch.set_num_threads(1)
import lerobot
from lerobot.datasets.lerobot_dataset import LeRobotDataset
root, horizon, fps, cameras = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(",")
decoder = sys.argv[5] or None
indices = json.load(sys.stdin)
steps = [i / fps for i in range(horizon)]
dataset = LeRobotDataset("bench/loader", root=root, delta_timestamps={"action": steps}, video_backend=decoder)
dataset[indices[0]]
start = time.process_time()
items = [dataset[i] for i in indices]
cpu_s = time.process_time() - start
seen = [[float(item[c].mean()) * 255 for c in cameras] + [float(item["action"].sum())] for item in items]
print(json.dumps({"cpu_s": cpu_s, "version": lerobot.__version__, "decoder": dataset.video_backend, "seen": seen}))
"""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Args:
        lerobot_python: an interpreter that has `lerobot`; None measures the plain loader instead.
        decoder: LeRobot's video backend (`torchcodec`, `pyav`); None takes its default.
        episodes, frames: episodes, and frames of each. side_px: height and width of the pictures.
        horizon: rows of a window. samples: random samples of the peer in a round. rounds: turns of each side.
    """

    lerobot_python: Path | None = None
    decoder: str | None = None
    episodes: int = 6
    frames: int = 200
    side_px: int = 224
    horizon: int = 30
    samples: int = 150
    rounds: int = 3


def main(options: Options) -> None:
    """Make the set, let the sides take turns, compare what they gave."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "set"
        _write(root, options)
        ours: list[float] = []
        peers: list[float] = []
        worst = 0.0
        facts: dict[str, Any] = {}
        for number in range(options.rounds):
            rate, seen = _ours(root, options, seed=number)
            ours.append(rate)
            chosen = _indices(options, number)
            facts = (
                _plain(root, options, chosen)
                if options.lerobot_python is None
                else _lerobot(options.lerobot_python, root, options, chosen)
            )
            peers.append(len(chosen) / facts["cpu_s"])
            expected = np.array([seen[index] for index in chosen])
            worst = max(worst, float(np.abs(expected - np.array(facts["seen"])).max()))
    peer = "plain_pyav" if options.lerobot_python is None else f"LeRobotDataset {facts['version']}"
    times = ratio([1 / rate for rate in peers], [1 / rate for rate in ours])
    report = {
        "bench": "loader",
        "peer": peer,
        "peer_decoder": facts["decoder"],
        "cameras": len(CAMERAS),
        "side_px": options.side_px,
        "horizon": options.horizon,
        "samples_per_cpu_s": {"ours": round(float(np.median(ours)), 1), "peer": round(float(np.median(peers)), 1)},
        "ratio": asdict(times),
        "ratio_per_round": [round(a / b, 2) for a, b in zip(ours, peers, strict=True)],
        "parity_largest_difference": round(worst, 4),
        "run": run_fingerprint(0),
    }
    print(f"ours {np.median(ours):8.1f} samples per CPU-second\n{peer} {np.median(peers):8.1f}\nratio {times}")
    print(f"largest difference of a picture's mean (0..255) or of a chunk's sum: {worst:.4f}")
    print(json.dumps(report))


def _write(root: Path, options: Options) -> None:
    """A LeRobotDataset with moving pictures and mild noise, in LeRobot's default encoding."""
    side = options.side_px
    vector = Feature("float32", (ACTION_DIM,), tuple(f"joint_{i}" for i in range(ACTION_DIM)))
    features = {"observation.state": vector, "action": vector}
    features |= {name: Feature("video", (side, side, 3)) for name in CAMERAS}
    generator = np.random.default_rng(0)
    with LeRobotWriter(root, FPS, features, "bench_arm") as writer:
        for _ in range(options.episodes):
            phase = generator.uniform(0, 6, ACTION_DIM)
            for frame in range(options.frames):
                state = np.sin(frame / FPS + phase).astype(np.float32)
                pictures = {name: _picture(frame + 40 * i, side, generator) for i, name in enumerate(CAMERAS)}
                writer.add_frame({"observation.state": state, "action": state, **pictures}, "wave")
            writer.save_episode()


def _picture(frame: int, side: int, generator: np.random.Generator) -> ImageArray:
    v, u = np.mgrid[0:side, 0:side]
    waves = [96 + 60 * np.sin((u * a + v * b + 4 * frame) / 23) for a, b in ((1, 0), (0, 1), (1, 1))]
    noise = generator.integers(-6, 7, (side, side, 1))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def _indices(options: Options, number: int) -> list[int]:
    """Frames of complete windows, in random order, numbered through all episodes as LeRobotDataset does."""
    generator = np.random.default_rng(number)
    episode = generator.integers(0, options.episodes, options.samples)
    start = generator.integers(0, options.frames - options.horizon + 1, options.samples)
    return (episode * options.frames + start).tolist()


def _ours(root: Path, options: Options, seed: int) -> tuple[float, dict[int, list[float]]]:
    """One whole epoch: (samples per CPU-second, index -> means of the pictures and sum of the chunk)."""
    store = LeRobotStore(root)
    names = tuple(f"joint_{i}" for i in range(ACTION_DIM))
    mapping = DatasetMap(
        state=(Slice("observation.state", 0, ACTION_DIM, names),),
        action=(Slice("action", 0, ACTION_DIM, names),),
        views=dict(zip(("base", "left_wrist"), CAMERAS, strict=True)),
        embodiment=_arm(names),
    )
    source = RobotSource(store, mapping, options.horizon)
    batch_size = options.episodes  # divides the windows of an epoch, so that no pool is left half used
    spec = MixtureSpec((source,), seed=seed, shuffle_windows=512)
    seen: dict[int, list[float]] = {}
    cpu_s, num_samples = 0.0, 0
    states = {
        row.tobytes(): e * options.frames + f
        for e in range(len(store))
        for f, row in enumerate(store.columns(e, ["observation.state"])["observation.state"])
    }
    start = time.process_time()
    with Loader(Mixture(spec, batch_size), num_workers=0) as loader:
        for _ in range(len(source.windows) // batch_size):
            batch = next(loader)
            num_samples += len(batch.samples)
            cpu_s += time.process_time() - start
            for sample in batch.samples:
                index = states[sample.state.tobytes()]
                means = [float(sample.images[view].mean()) for view in mapping.views]
                seen[index] = [*means, _sum(sample.actions)]
            start = time.process_time()
    return num_samples / cpu_s, seen


def _plain(root: Path, options: Options, chosen: list[int]) -> dict[str, Any]:
    """One seek and one decoded frame for every sample and camera; the columns are in memory already."""
    store = LeRobotStore(root)
    actions = {e: store.columns(e, ["action"])["action"] for e in range(len(store))}
    start = time.process_time()
    seen: list[list[float]] = []
    spent_s = 0.0
    for index in chosen:
        episode, frame = divmod(index, options.frames)
        place = store.place(episode)
        pictures = []
        for camera in CAMERAS:
            video = place.videos[camera]
            pictures.append(_one_frame(video.path, video.start_s + frame / FPS))
        chunk = actions[episode][frame : frame + options.horizon].copy()
        spent_s += time.process_time() - start
        seen.append([*(float(picture.mean()) for picture in pictures), _sum(chunk)])
        start = time.process_time()
    return {"cpu_s": spent_s, "decoder": f"PyAV {av.__version__}", "seen": seen}


def _one_frame(path: Path, time_s: float) -> ImageArray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None
        container.seek(int((time_s - 0.25 / FPS) / stream.time_base) if time_s else 0, stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts * stream.time_base >= time_s - 0.25 / FPS:
                return frame.to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False)
    raise ValueError(f"{path} has no frame at {time_s} s")


def _lerobot(python: Path, root: Path, options: Options, chosen: list[int]) -> dict[str, Any]:
    arguments = [str(root), str(options.horizon), str(FPS), ",".join(CAMERAS), options.decoder or ""]
    command = [str(python), "-c", _PEER, *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, input=json.dumps(chosen), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{python} cannot measure lerobot: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _sum(actions: FloatArray) -> float:
    return float(actions.astype(np.float64).sum())


def _arm(names: tuple[str, ...]) -> Embodiment:
    states = tuple(Dimension(name, "rad", "joint", "base", i, -3.0, 3.0) for i, name in enumerate(names))
    actions = tuple(
        ActionDimension(name, "rad", "joint", "base", i, -3.0, 3.0, 3.0, 30.0, 300.0, "last", name, False)
        for i, name in enumerate(names)
    )
    return Embodiment("bench_arm", "joint", states, actions, ("base", "left_wrist"), FPS, FPS)


if __name__ == "__main__":
    main(tyro.cli(Options))
