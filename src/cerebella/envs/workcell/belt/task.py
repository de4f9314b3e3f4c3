"""Take the instructed parts from a moving belt, and put each into its bin while the belt goes on.

Short episodes: three wanted parts come among others; success when all three are in their bins and nothing else is in one. A
missed or a wrong part ends the episode. Streams: the belt brings parts until the time is over.

A part is in a bin when it rests within its walls, also on top of others. A wanted part is missed when it comes to the end of
the belt, and when it has lain beside belt and bins for 1.5 s: in a factory it would stay there, so nothing feeds it again.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco
import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.belt.expert import expert_plan
from cerebella.envs.workcell.belt.line import (
    BIN_INNER_HALF_M,
    BIN_TOP_M,
    BIN_X_M,
    BIN_Y_M,
    ENTRY_Y_M,
    VISIBLE_Y_M,
    add_line,
    bin_colour,
    mark_offset_m,
)
from cerebella.envs.workcell.belt.parts import KINDS, SIZES_M, Kind, add_parts
from cerebella.envs.workcell.belt.prompts import NUM_WORDINGS, all_prompts, prompt_text
from cerebella.envs.workcell.belt.stream import BeltEpisode, all_parts, bin_at, feed, take_away, take_stock
from cerebella.envs.workcell.cell import CONTROL_HZ, Cell
from cerebella.envs.workcell.task import Plan, SceneObject, WorkcellTask
from cerebella.geometry import transform
from cerebella.interfaces import Status

SPEED_M_S = (0.04, 0.10)
"""Of the belt."""
NUM_WANTED = 3
MAX_MISSED_SHARE = 0.05
"""A stream is a success if at most so many of the wanted parts were missed, and none was wrong."""
_BELT_ACCELERATION_M_S2 = 0.2


class Belt(WorkcellTask[BeltEpisode]):
    """See the module.

    Args:
        stream_s: length of a stream, seconds; None for short episodes.
        changes_speed: the belt changes to another speed once, in the middle.

    Raises:
        ValueError: `stream_s` is not above 0.
    """

    name = "workcell/belt"
    steps_per_tick = 16
    max_ticks = 2700
    hold_still = "repeat the last targets; the belt goes on"

    def __init__(self, stream_s: float | None = None, changes_speed: bool = False) -> None:
        """See the class."""
        if stream_s is not None:
            if not stream_s > 0:
                raise ValueError(f"stream_s must be above 0 s; got {stream_s}")
            self.max_ticks = int(np.ceil(stream_s * CONTROL_HZ))
        self.is_stream = stream_s is not None
        self.changes_speed = changes_speed

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Belt, bins and parts."""
        add_line(spec)
        add_parts(spec)

    def reset(self, cell: Cell, rng: np.random.Generator) -> BeltEpisode:
        """Draw kinds, bins, wording, speeds and the first part."""
        num_kinds, num_others = int(rng.integers(1, 3)), int(rng.integers(2, 4))
        kinds: list[Kind] = [KINDS[i] for i in rng.permutation(len(KINDS))[: num_kinds + num_others]]
        sides: list[Side] = ["left", "right"] if rng.random() < 0.5 else ["right", "left"]
        wanted = dict(zip(kinds[:num_kinds], sides, strict=False))
        speed, other_speed = (float(rng.uniform(*SPEED_M_S)) for _ in range(2))
        middle = self.max_ticks // 2 if self.is_stream else int(rng.integers(150, 450))
        episode = BeltEpisode(
            prompt=prompt_text(wanted, int(rng.integers(NUM_WORDINGS))),
            wanted=wanted,
            others=tuple(kinds[num_kinds:]),
            num_wanted=None if self.is_stream else NUM_WANTED,
            speed_m_s=speed,
            next_speed_m_s=speed,
            change_tick=middle if self.changes_speed else None,
            change_speed_m_s=other_speed,
            rng=rng,
            parts=all_parts(cell),
            belt_qpos=int(cell.model.joint("belt").qposadr[0]),
            belt_dof=int(cell.model.joint("belt").dofadr[0]),
        )
        for part in episode.parts:
            take_away(cell, part)
        cell.data.qvel[episode.belt_dof] = speed
        first_y = rng.uniform(0.36, VISIBLE_Y_M)
        feed(cell, episode, entry_y_m=first_y)
        episode.next_part_m -= ENTRY_Y_M - first_y  # the first is further on than the entry
        return episode

    def after_physics_step(self, cell: Cell, episode: BeltEpisode) -> None:
        """Drive the belt: its speed as it should be, its place as it was."""
        most = _BELT_ACCELERATION_M_S2 * cell.model.opt.timestep
        change = episode.next_speed_m_s - episode.speed_m_s
        episode.speed_m_s += min(max(change, -most), most)
        episode.travel_m += episode.speed_m_s * cell.model.opt.timestep
        cell.data.qvel[episode.belt_dof] = episode.speed_m_s
        cell.data.qpos[episode.belt_qpos] = 0.0

    def after_tick(self, cell: Cell, episode: BeltEpisode) -> None:
        """Count, take away, and feed."""
        if cell.tick == episode.change_tick:
            episode.next_speed_m_s = episode.change_speed_m_s
        take_stock(cell, episode)
        feed(cell, episode)
        cell.place_body("belt_marks", transform(np.eye(3), [0.0, mark_offset_m(episode.travel_m), 0.0]))
        cell.refresh()

    def status(self, cell: Cell, episode: BeltEpisode) -> Status:
        """Metrics: `num_picked` (in the right bin), `num_missed`, `num_wrong` (any other part in a bin), `parts_per_minute`
        (picked), `belt_speed_m_s`.
        """
        metrics = {
            "num_picked": float(episode.num_picked),
            "num_missed": float(episode.num_missed),
            "num_wrong": float(episode.num_wrong),
            "parts_per_minute": 60.0 * episode.num_picked / max(cell.time_s, 1.0 / CONTROL_HZ),
            "belt_speed_m_s": float(episode.speed_m_s),
        }
        if self.is_stream:
            is_done = cell.tick >= self.max_ticks
            most = MAX_MISSED_SHARE * (episode.num_picked + episode.num_missed)
            is_good = episode.num_picked > 0 and episode.num_wrong == 0 and episode.num_missed <= most
            return Status(is_done, is_done and is_good, "time" if is_done else "", metrics)
        if episode.num_wrong:
            return Status(True, False, "wrong part in a bin", metrics)
        if episode.num_missed:
            return Status(True, False, "missed", metrics)
        is_done = episode.num_picked == episode.num_wanted
        return Status(is_done, is_done, "sorted" if is_done else "", metrics)

    def all_prompts(self) -> tuple[str, ...]:
        """See `prompts`."""
        return all_prompts()

    def truth(self, cell: Cell, episode: BeltEpisode) -> tuple[SceneObject, ...]:
        """The bins, and the parts that are in the scene and not inside a housing."""
        size = 2 * np.array([*BIN_INNER_HALF_M, BIN_TOP_M / 2])
        found = [
            SceneObject(f"{side}_bin", "bin", bin_colour(side), np.array([BIN_X_M, y, BIN_TOP_M / 2]), size)
            for side, y in BIN_Y_M.items()
        ]
        for part in episode.parts:
            pose = cell.T_world_body(part.name)
            if part.place == "away" or abs(pose[1, 3]) > VISIBLE_Y_M:
                continue
            size = np.abs(pose[:3, :3]) @ SIZES_M[part.kind.shape]
            found.append(SceneObject(part.name, part.kind.shape, part.kind.colour, pose[:3, 3], size))
        return tuple(found)

    def named(self, cell: Cell, episode: BeltEpisode) -> tuple[str, ...]:
        """The wanted parts in sight that are not in their bins, on the belt or in a gripper; the furthest along comes first."""
        found: list[tuple[float, str]] = []
        for part in episode.parts:
            position = cell.data.xpos[part.body]
            is_running = part.place == "out" and part.kind in episode.wanted and abs(position[1]) <= VISIBLE_Y_M
            if is_running and bin_at(position) != episode.wanted[part.kind]:
                found.append((float(position[1]), part.name))
        return tuple(name for _, name in sorted(found))

    def expert(self, cell: Cell, episode: BeltEpisode, rng: np.random.Generator) -> Plan:
        """See `expert.expert_plan`."""
        return expert_plan(cell, episode, rng)


class BeltStream(Belt):
    """Thirty minutes without a break."""

    name = "workcell/belt_stream"

    def __init__(self) -> None:
        """See the class."""
        super().__init__(stream_s=1800.0)
