"""Put the peg into the hole of the block. The right gripper holds the peg from the start, some millimetres and degrees off;
the hole leaves half a millimetre on each side. The block lies loose on the table, and the left gripper can hold it.

Success: the peg is in to depth, and the right gripper has let go.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.envs.workcell.arm_model import MAX_OPENING_M
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.insert.expert import expert_plan
from cerebella.envs.workcell.insert.joint import BLOCK_SIZE_M, PEG_SIZE_M, add_joint_parts, measure_fit
from cerebella.envs.workcell.moves import pointing_down
from cerebella.envs.workcell.task import Episode, Plan, SceneObject, WorkcellTask
from cerebella.geometry import Array, so3_exp, transform
from cerebella.interfaces import Status

ALONG_M, ASIDE_M, TILT_RAD = 0.003, 0.004, 0.10
"""How far the peg is off in the gripper, at most: along the fingers, across the pads, about the line between the pads. (The
pads themselves put it right in the other directions.)"""
HELD_IN_TOOL_M = 0.020
"""The peg's middle lies so far beyond the tool's origin, if it is not off."""
_HELD_OPENING = PEG_SIZE_M[1] / MAX_OPENING_M
_GRIP_TARGET = _HELD_OPENING - 0.05
_HOLD_TICKS = 10
PROMPTS: tuple[str, ...] = (
    "put the peg into the hole",
    "insert the peg into the block",
    "push the orange peg into the blue block",
    "plug the peg in",
    "fit the peg into the hole of the block",
    "please put the peg in the blue block",
)


@dataclass(kw_only=True)
class InsertEpisode(Episode):
    """`along_m`, `aside_m`, `tilt_rad`: how the peg was off at the start."""

    along_m: float
    aside_m: float
    tilt_rad: float
    num_seated_ticks: int = 0
    is_dropped: bool = False


class Insert(WorkcellTask[InsertEpisode]):
    """See the module."""

    name = "workcell/insert"
    steps_per_tick = 16
    max_ticks = 600
    hold_still = "repeat the last targets; keep the right gripper closed, or the peg falls"

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Peg and block."""
        add_joint_parts(spec)

    def reset(self, cell: Cell, rng: np.random.Generator) -> InsertEpisode:
        """Draw the block's place and how the peg is off, and put the peg between the right pads."""
        x, y = rng.uniform([0.28, -0.01], [0.34, 0.03])
        yaw = rng.uniform(-0.15, 0.15)
        cell.place_body("block", transform(so3_exp([0.0, 0.0, yaw]), [x, y, BLOCK_SIZE_M[2] / 2]))
        along, aside, tilt = rng.uniform(-1.0, 1.0, 3) * [ALONG_M, ASIDE_M, TILT_RAD]
        T_world_tool = pointing_down(rng.uniform([0.24, -0.20, 0.18], [0.30, -0.14, 0.22]), -np.pi / 2)
        joints, _ = cell.right.joints_at(T_world_tool, cell.right.home_rad)
        cell.right.place(joints, _HELD_OPENING)
        cell.right.requested_opening = _GRIP_TARGET
        cell.place_body("peg", T_world_tool @ T_tool_peg(along, aside, tilt))
        prompt = PROMPTS[rng.integers(len(PROMPTS))]
        return InsertEpisode(prompt=prompt, along_m=along, aside_m=aside, tilt_rad=tilt)

    def after_tick(self, cell: Cell, episode: InsertEpisode) -> None:
        """Count how long the peg has been in and free."""
        is_held = bool(cell.right.pad_forces_n.max() > 0.0)
        fit = measure_fit(cell)
        episode.num_seated_ticks = episode.num_seated_ticks + 1 if fit.is_seated and not is_held else 0
        is_low = cell.position_m("peg")[2] < PEG_SIZE_M[2] / 2 - 0.01
        episode.is_dropped = episode.is_dropped or (not is_held and is_low and not fit.is_seated)

    def status(self, cell: Cell, episode: InsertEpisode) -> Status:
        """Metrics: `depth_mm`, `off_mm`, `tilt_deg` of the peg against the hole."""
        fit = measure_fit(cell)
        metrics = {
            "depth_mm": 1e3 * fit.depth_m,
            "off_mm": 1e3 * fit.off_m,
            "tilt_deg": float(np.degrees(fit.tilt_rad)),
        }
        if episode.is_dropped:
            return Status(True, False, "dropped", metrics)
        is_done = episode.num_seated_ticks >= _HOLD_TICKS
        return Status(is_done, is_done, "seated" if is_done else "", metrics)

    def all_prompts(self) -> tuple[str, ...]:
        """See `PROMPTS`."""
        return PROMPTS

    def truth(self, cell: Cell, episode: InsertEpisode) -> tuple[SceneObject, ...]:
        """Peg and block."""
        things = (("peg", "orange", PEG_SIZE_M), ("block", "blue", BLOCK_SIZE_M))
        return tuple(
            SceneObject(name, name, colour, cell.position_m(name), np.abs(cell.T_world_body(name)[:3, :3]) @ size)
            for name, colour, size in things
        )

    def named(self, cell: Cell, episode: InsertEpisode) -> tuple[str, ...]:
        """The peg, until it is in and free."""
        return () if episode.num_seated_ticks else ("peg",)

    def expert(self, cell: Cell, episode: InsertEpisode, rng: np.random.Generator) -> Plan:
        """See `expert.expert_plan`."""
        return expert_plan(cell, rng)


def T_tool_peg(along_m: float, aside_m: float, tilt_rad: float) -> Array:
    """Of a peg that is off so much, float64[4, 4]: its z against the fingers' direction, its y where they open."""
    upright = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    return transform(so3_exp([0.0, tilt_rad, 0.0]) @ upright, [HELD_IN_TOOL_M + along_m, 0.0, aside_m])
