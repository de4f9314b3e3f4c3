"""One demonstration of a workcell task: played by its expert, recorded with three cameras, with the truth beside it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cerebella.arms import ControlMode
from cerebella.data.episodes import Feature
from cerebella.data.lerobot_files import replace_file, write_json_file
from cerebella.data.lerobot_recording import RECORDING, EpisodeRecording
from cerebella.data.video import VideoEncoding
from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.cell import CONTROL_HZ
from cerebella.envs.workcell.disturbance import Disturbance
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.expert_driver import disturbed_ticks
from cerebella.envs.workcell.landmark_recorder import LandmarkRecorder
from cerebella.envs.workcell.moments import MomentRecorder
from cerebella.envs.workcell.task import WorkcellTask
from cerebella.recipes.workcell_set import PICTURE, SENT, landmarks_file, truth_file

Codec = Literal["h264", "av1"]
CODECS: Mapping[Codec, VideoEncoding] = {
    "h264": VideoEncoding("libx264", crf=23, preset="veryfast", num_threads=1),
    "av1": VideoEncoding("libsvtav1", preset="10", num_threads=1),
}
"""H.264 takes a quarter of the time of AV1 here. Both with a key frame every second frame, for quick single frames."""
MAX_DISTURB_M = 0.05


@dataclass(frozen=True)
class GenerationSettings:
    """What every demonstration of a set has in common.

    Args:
        control_mode: of the commands.
        render_px: height and width of the pictures, even. A multiple of 32 makes videos that are the same to the bit when a set
            is made again; others may differ in a few pixels, once in hundreds of episodes.
        randomisation: a preset of `envs.workcell.randomisation.RANDOMISATIONS`.
        fps: rows per second, a whole divisor of 30. A row is the command of its own tick, so that the rows between were
            left out, not averaged.
        first_seed: of the environment and the expert's style; the next ones follow by ones.
        keeps_failed: whether attempts without success become episodes too.
        codec: of the videos.
        moment_every_s: mean time between two pictures with questions, seconds; 0 for none.
        disturb_m: standard deviation of what is sent around what the expert asks for, metres, see `disturbance`; 0 for none.

    Raises:
        ValueError: a number out of range.
    """

    control_mode: ControlMode = "end_effector"
    render_px: int = 224
    randomisation: str = "mild"
    fps: int = 30
    first_seed: int = 0
    keeps_failed: bool = False
    codec: Codec = "h264"
    moment_every_s: float = 1.0
    disturb_m: float = 0.0

    def __post_init__(self) -> None:
        if self.fps < 1 or CONTROL_HZ % self.fps:
            raise ValueError(f"fps must be a whole divisor of {CONTROL_HZ:g}; got {self.fps} frames/s")
        if self.render_px % 2 or self.render_px < 16:
            raise ValueError(f"render_px must be an even number of pixels, 16 or more; got {self.render_px}")
        if self.first_seed < 0:
            raise ValueError(f"first_seed must be 0 or more; got {self.first_seed}")
        if self.codec not in CODECS:
            raise ValueError(f"codec must be one of {', '.join(CODECS)}; got {self.codec!r}")
        if not 0 <= self.moment_every_s < float("inf"):
            raise ValueError(f"moment_every_s must be 0 s or more; got {self.moment_every_s}")
        if not 0 <= self.disturb_m <= MAX_DISTURB_M:
            raise ValueError(f"disturb_m must be in 0..{MAX_DISTURB_M} m; got {self.disturb_m}")


@dataclass(frozen=True)
class Attempt:
    """How it went with one seed.

    Args:
        is_kept: it is an episode of the set. reason: why it ended. metrics: of the environment at the end.
    """

    seed: int
    is_success: bool
    is_kept: bool
    reason: str
    num_frames: int
    prompt: str
    metrics: Mapping[str, float]

    def line(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> "Attempt":
        """What `line` made."""
        return cls(**json.loads(line))


class Demonstrator:
    """Plays attempts one after the other, in one environment.

    Args:
        directory: where recordings go, by seed. Each appears whole or not at all; one that is there is not made again.
    """

    def __init__(self, task: WorkcellTask[Any], settings: GenerationSettings, directory: Path) -> None:
        """See the class."""
        size_px = (settings.render_px, settings.render_px)
        self._environment = WorkcellEnvironment(
            task, settings.control_mode, render_size=size_px, randomisation=settings.randomisation
        )
        self._settings, self._directory = settings, directory
        self._stride = round(CONTROL_HZ / settings.fps)

    @property
    def embodiment(self) -> Embodiment:
        """That of the environment, at the rate of the set."""
        return replace(self._environment.embodiment, policy_hz=float(self._settings.fps))

    @property
    def features(self) -> dict[str, Feature]:
        """What a frame holds."""
        robot, size_px = self.embodiment, self._settings.render_px
        command = Feature("float32", (robot.action_dim,), tuple(d.name for d in robot.actions))
        return {
            "observation.state": Feature("float32", (robot.state_dim,), tuple(d.name for d in robot.states)),
            "action": command,
            **({SENT: command} if self._settings.disturb_m else {}),
            **{PICTURE + view: Feature("video", (size_px, size_px, 3)) for view in robot.views},
        }

    def attempt(self, seed: int) -> Attempt:
        """Play the expert with this seed. What is kept is then in `recording/` and `truth` of the directory."""
        finished = attempt_file(self._directory, seed)
        if finished.is_file():
            return Attempt(**json.loads(finished.read_text(encoding="utf-8")))
        environment, settings = self._environment, self._settings
        shutil.rmtree(
            recording_directory(self._directory, seed), ignore_errors=True
        )  # of a kill just before the last line
        encoding = CODECS[settings.codec]
        recording = EpisodeRecording(self._directory, seed, 0, settings.fps, self.features, encoding)
        spacing = max(1, round(settings.moment_every_s * settings.fps))
        moments = MomentRecorder(environment, spacing, np.random.default_rng([seed, 1]))
        landmarks = LandmarkRecorder(environment)
        disturbance = None
        if settings.disturb_m:
            disturbance = Disturbance(settings.disturb_m, np.random.default_rng([seed, 2]))
        for action, sent in disturbed_ticks(environment, seed, seed, disturbance):
            if action.tick % self._stride == 0:
                observation = environment.observe()
                moments.look()
                landmarks.look()
                pictures = {PICTURE + view: picture for view, picture in observation.images.items()}
                numbers = {"observation.state": observation.state, "action": action.values, SENT: sent.values}
                recording.add({**numbers, **pictures}, observation.prompt)
        status = environment.status()
        is_kept = len(recording) > 0 and (status.is_success or settings.keeps_failed)
        result = Attempt(
            seed=seed,
            is_success=status.is_success,
            is_kept=is_kept,
            reason=status.reason or "the expert stopped before the end",
            num_frames=len(recording),
            prompt=environment.episode.prompt,
            metrics=dict(status.metrics),
        )
        if is_kept:
            recording.save({})
            replace_file(landmarks_file(self._directory, seed), landmarks.finish().save)
            if settings.moment_every_s:
                write_json_file(truth_file(self._directory, seed), moments.finish().to_json())
        else:
            recording.discard()
        write_json_file(finished, asdict(result))
        return result

    def close(self) -> None:
        """Give the graphics memory back."""
        self._environment.close()


def attempt_file(directory: Path, number: int) -> Path:
    """Where a finished attempt says how it went."""
    return directory / f"attempt-{number:06d}.json"


def recording_directory(directory: Path, seed: int) -> Path:
    """Where the recording of a kept attempt is, as `EpisodeRecording` leaves it."""
    return directory / RECORDING / f"episode-{seed:06d}"
