"""An episode store in memory whose pictures say which frame they are, and sources made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cerebella.data.episodes import Columns, DataFault, EpisodeInfo, Feature
from cerebella.data.mapping import DatasetMap
from cerebella.data.slices import Slice
from cerebella.data.sources import RobotSource
from cerebella.data.windows import Run, WindowIndex
from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.types import Conversation, ImageArray


def one_joint(name: str = "toy", views: tuple[str, ...] = ("base",)) -> Embodiment:
    joint = Dimension("q", "rad", "joint", "base", 0, -1e6, 1e6)
    target = ActionDimension("q", "rad", "joint", "base", 0, -1e6, 1e6, 1, 1, 1, "last", "q", False)
    return Embodiment(name, "joint", (joint,), (target,), views, 30.0, 30.0)


@dataclass
class MemoryStore:
    """Frame f of episode e has the state 1000 e + f and a picture of f; the action is the state plus a half."""

    name: str
    lengths: Sequence[int]
    broken: Mapping[int, int] = field(default_factory=dict)
    decoded: list[tuple[int, int, int]] = field(default_factory=list)
    robot_type: str = "toy"
    fps: float = 30.0

    @property
    def features(self) -> dict[str, Feature]:
        return {name: Feature("float32", (1,)) for name in ("state", "action")} | {"cam": Feature("video", (4, 4, 3))}

    @property
    def tasks(self) -> dict[int, str]:
        return {0: "move"}

    def __len__(self) -> int:
        return len(self.lengths)

    def episode(self, index: int) -> EpisodeInfo:
        return EpisodeInfo(index, self.lengths[index], ("move",), self.fps)

    def columns(self, index: int, names: Sequence[str] | None = None) -> Columns:
        state = (1000 * index + np.arange(self.lengths[index], dtype=np.float32))[:, None]
        return {"state": state, "action": state + 0.5}

    def frames(self, index: int, feature: str, start: int, stop: int) -> ImageArray:
        if index in self.broken and stop > self.broken[index]:
            raise DataFault("corrupt video", f"{self.name}.mp4", index, f"frame {self.broken[index]} does not decode")
        self.decoded.append((index, start, stop))
        values = np.arange(start, stop, dtype=np.uint8)
        return np.broadcast_to(values[:, None, None, None], (stop - start, 4, 4, 3)).copy()


def robot_source(
    name: str,
    lengths: Sequence[int],
    horizon: int = 3,
    run_length: int = 4,
    robot: str = "toy",
    broken: Mapping[int, int] | None = None,
) -> RobotSource:
    mapping = DatasetMap(
        state=(Slice("state", 0, 1, ("q",)),),
        action=(Slice("action", 0, 1, ("q",)),),
        views={"base": "cam"},
        embodiment=one_joint(robot),
        fixed_prompt="move",
    )
    return RobotSource(MemoryStore(name, lengths, broken or {}), mapping, horizon, run_length=run_length)


class Talk:
    """Vision-language records that say their number."""

    group, run_length = None, 1

    def __init__(self, name: str, num_records: int) -> None:
        self.name, self.windows = name, WindowIndex(np.array([0, num_records]))

    def part(self, lane: int, num_lanes: int) -> None:
        return None

    def read(self, run: Run) -> list[Conversation]:
        numbers = range(run.first, run.first + run.length)
        return [Conversation((), (("user", f"{self.name} {i}"), ("assistant", "yes")), self.name) for i in numbers]
