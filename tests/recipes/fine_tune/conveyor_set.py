"""LeRobotDatasets of the conveyor's expert, small enough to be written in a test, and runs of two steps on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_writer import FileSizes, LeRobotWriter
from cerebella.data.video import VideoEncoding
from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.recipes.fine_tune.options import PosttrainAsync
from cerebella.released_robots import released_embodiment
from cerebella.types import Action

SHIPPED = Path(__file__).parents[3] / "policies" / "conveyor-micro"
FAST: dict[str, Any] = {
    "num_steps": 2,
    "batch_size": 4,
    "flow_repeats": 1,
    "precision": "float32",
    "device": "cpu",
    "log_every": 1,
    "save_every": 1,
    "validate_every": 2,
    "shuffle_windows": 16,
    "num_workers": 1,
    "show_progress": False,
}
"""Two steps on a CPU, everything logged."""
CAMERA = "observation.images.base"
ENCODING = VideoEncoding("libx264", keyframe_every=4, crf=18, preset="ultrafast")
ONE_FILE_EACH = FileSizes(video_mb=1e-6)
"""Every episode has a video of its own."""
OTHER = replace(CONVEYOR, name="other", views=("base", "left_wrist"))
"""The same numbers under another name, with a second camera."""


def write_set(
    directory: Path,
    num_episodes: int = 4,
    fps: float = 30.0,
    num_frames: int = 24,
    names: Sequence[str] | None = None,
    camera: str | None = CAMERA,
    robot: Embodiment = CONVEYOR,
    size: tuple[int, int] = (64, 96),
) -> Path:
    """The expert's first frames of each episode. `names`: of the entries, where not the robot's."""
    features = {
        "observation.state": Feature("float32", (robot.state_dim,), tuple(names or [d.name for d in robot.states])),
        "action": Feature(
            "float32", (robot.action_dim,), tuple(names or [d.name for d in robot.actions])[: robot.action_dim]
        ),
    }
    if camera is not None:
        features[camera] = Feature("video", (*size, 3))
    nothing = np.zeros((0, 3), dtype=np.float32)
    environment = DynamicEnvironment(ConveyorTask())
    expert = DynamicExpert(environment, horizon=2)
    with LeRobotWriter(directory, fps, features, robot.name, ENCODING, ONE_FILE_EACH) as writer:
        for seed in range(num_episodes):
            environment.reset(seed)
            for tick in range(num_frames):
                seen = environment.observe()
                action = expert.infer(seen, nothing).actions[0]
                frame = {"observation.state": seen.state, "action": action}
                writer.add_frame(
                    frame if camera is None else {**frame, camera: seen.images["base"][: size[0], : size[1]]},
                    seen.prompt,
                )
                if not environment.status().is_done:
                    environment.apply(Action(action, tick))
            writer.save_episode()
    return directory


def write_noise(directory: Path, robot_type: str, num_frames: int = 14) -> Path:
    """A set in the layout of a released simulation robot: noise in its ranges, pictures of noise, cameras by view."""
    robot = released_embodiment(robot_type)
    features = {
        "observation.state": Feature("float32", (robot.state_dim,)),
        "action": Feature("float32", (robot.action_dim,)),
        **{f"observation.images.{view}": Feature("image", (64, 96, 3)) for view in robot.views},
    }
    random = np.random.default_rng(0)
    with LeRobotWriter(directory, robot.policy_hz, features, robot_type) as writer:
        for _ in range(3):
            for _ in range(num_frames):
                frame = {
                    "observation.state": random.uniform([d.low for d in robot.states], [d.high for d in robot.states]),
                    "action": random.uniform([d.low for d in robot.actions], [d.high for d in robot.actions]),
                }
                frame = {name: values.astype(np.float32) for name, values in frame.items()}
                pictures = {
                    f"observation.images.{view}": random.integers(0, 256, (64, 96, 3), np.uint8) for view in robot.views
                }
                writer.add_frame({**frame, **pictures}, "put the cup away")
            writer.save_episode()
    return directory


def posttrain(root: Path, out: Path, **options: Any) -> PosttrainAsync:
    """Two steps on `root / "belt"`, from the shipped policy."""
    return PosttrainAsync(**({"start": str(SHIPPED), "data": (str(root / "belt"),), "out": out} | FAST | options))
