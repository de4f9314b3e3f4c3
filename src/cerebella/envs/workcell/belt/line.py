"""The belt, the housings that hide its ends, and the two bins between belt and robot.

The belt runs along the world's y, from the robot's left to its right. It is one long slab on a slide joint. Before every
physics step its speed is set and its place is put back, so contacts feel a surface that moves and never comes to an end.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco

from cerebella.arms import Side

BELT_X_M = 0.33
BELT_HALF_WIDTH_M = 0.07
BELT_TOP_M = 0.02
ENTRY_Y_M, EXIT_Y_M = 0.52, -0.52
"""Where parts are put on the belt and taken off it, both inside a housing."""
VISIBLE_Y_M = 0.44
"""The belt lies open between minus and plus this."""
BIN_X_M = 0.185
BIN_Y_M: dict[Side, float] = {"left": 0.068, "right": -0.068}
BIN_INNER_HALF_M = (0.050, 0.058)
"""Along x and y."""
BIN_FLOOR_M, BIN_TOP_M = 0.003, 0.05

_BELT_HALF_LENGTH_M = 0.59
_MARK_PITCH_M = 0.08
_WALL_M = 0.004
_BELT_RGBA = (0.17, 0.18, 0.20, 1.0)
_MARK_RGBA = (0.27, 0.28, 0.31, 1.0)
_FRAME_RGBA = (0.62, 0.65, 0.69, 1.0)
_BIN_RGBA: dict[Side, tuple[float, float, float, float]] = {
    "left": (0.86, 0.87, 0.88, 1.0),
    "right": (0.38, 0.40, 0.44, 1.0),
}


def bin_colour(side: Side) -> str:
    """What a person calls it."""
    return "white" if side == "left" else "grey"


def add_line(spec: mujoco.MjSpec) -> None:
    """Joint and geom `belt`, mocap body `belt_marks` (only to be seen), housings and bins."""
    half_thickness = BELT_TOP_M / 2 - 0.0005  # half a millimetre above the table, so that they do not touch
    belt = spec.worldbody.add_body(name="belt", pos=[BELT_X_M, 0.0, BELT_TOP_M - half_thickness])
    belt.add_joint(name="belt", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0.0, -1.0, 0.0], armature=1000.0)
    belt.add_geom(
        name="belt",
        type=_BOX,
        size=[BELT_HALF_WIDTH_M, _BELT_HALF_LENGTH_M, half_thickness],
        mass=1.0,
        rgba=_BELT_RGBA,
        friction=[1.0, 0.005, 1e-4],
    )
    marks = spec.worldbody.add_body(name="belt_marks", mocap=True)
    for i in range(-6, 8):
        marks.add_geom(
            type=_BOX,
            size=[BELT_HALF_WIDTH_M, 0.003, 0.0002],
            pos=[BELT_X_M, i * _MARK_PITCH_M, BELT_TOP_M],
            contype=0,
            conaffinity=0,
            rgba=_MARK_RGBA,
        )
    _add_frame(spec.worldbody)
    for side in BIN_Y_M:
        _add_bin(spec.worldbody, side)


def mark_offset_m(travel_m: float) -> float:
    """Where `belt_marks` belongs along y after the belt has gone so far."""
    return -(travel_m % _MARK_PITCH_M)


def _add_frame(world: mujoco.MjsBody) -> None:
    """A rail on both sides of the belt, and a tunnel over each end."""
    for sign in (-1.0, 1.0):
        x = BELT_X_M + sign * (BELT_HALF_WIDTH_M + 0.006)
        world.add_geom(type=_BOX, size=[0.005, 0.60, 0.0125], pos=[x, 0.0, 0.0125], rgba=_FRAME_RGBA)
        y, half = sign * (VISIBLE_Y_M + 0.08), 0.08
        world.add_geom(type=_BOX, size=[0.085, half, 0.004], pos=[BELT_X_M, y, 0.084], rgba=_FRAME_RGBA)
        for side in (-1.0, 1.0):
            x = BELT_X_M + side * 0.083
            world.add_geom(type=_BOX, size=[0.002, half, 0.04], pos=[x, y, 0.04], rgba=_FRAME_RGBA)
        end = [BELT_X_M, y + sign * half, 0.044]
        world.add_geom(type=_BOX, size=[0.085, 0.002, 0.044], pos=end, rgba=_FRAME_RGBA)


def _add_bin(world: mujoco.MjsBody, side: Side) -> None:
    half_x, half_y = BIN_INNER_HALF_M
    wall, height = _WALL_M / 2, BIN_TOP_M / 2
    x, y, rgba = BIN_X_M, BIN_Y_M[side], _BIN_RGBA[side]
    floor = BIN_FLOOR_M / 2
    world.add_geom(name=f"{side}_bin", type=_BOX, size=[half_x, half_y, floor], pos=[x, y, floor], rgba=rgba)
    for sign in (-1.0, 1.0):
        beside = [x + sign * (half_x + wall), y, height]
        world.add_geom(type=_BOX, size=[wall, half_y + _WALL_M, height], pos=beside, rgba=rgba)
        beside = [x, y + sign * (half_y + wall), height]
        world.add_geom(type=_BOX, size=[half_x, wall, height], pos=beside, rgba=rgba)


_BOX = mujoco.mjtGeom.mjGEOM_BOX
