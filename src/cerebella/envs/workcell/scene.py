"""The room: a table with two arms at its near edge, a camera above the robot's shoulders, light that casts no shadow.

World frame: z up, the table's top at z = 0, x away from the robot, y to its left. With the gripper down both arms reach
x 0.15..0.42, |y| < 0.22 at up to 0.2 m above the table; each reaches its own half to x = 0.5.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from cerebella.arms import Side
from cerebella.envs.workcell.arm_model import add_arm
from cerebella.geometry import Array

BASE_POSITION_M: dict[Side, tuple[float, float, float]] = {"left": (0.0, 0.25, 0.0), "right": (0.0, -0.25, 0.0)}
"""Of each arm's base frame; its axes are parallel to the world's."""
TABLE_CENTRE_M = (0.30, 0.0)
TABLE_SIZE_M = (0.90, 1.30)
"""Along x and y."""
CAMERAS: dict[str, str] = {"base": "base", "left_wrist": "left_wrist", "right_wrist": "right_wrist"}
"""View of an observation -> camera of the model."""
MAX_PICTURE_PX = 1024


def room_spec() -> mujoco.MjSpec:
    """Room, table and arms, ready for a task to add to. Time step and physics options are changed by the task.

    Geoms `table`, `floor` and `wall`, camera `base`, lights `main` and `fill`; the arms as in `arm_model.add_arm`.
    Elliptic friction cones, so that friction holds what is gripped.
    """
    spec = mujoco.MjSpec()
    spec.modelname = "workcell"
    spec.compiler.degree = False
    option = spec.option
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.timestep = 1.0 / 30.0 / 16.0
    _set_picture_quality(spec)
    world = spec.worldbody
    half_x, half_y = TABLE_SIZE_M[0] / 2, TABLE_SIZE_M[1] / 2
    world.add_geom(
        name="table",
        type=_BOX,
        size=[half_x, half_y, 0.03],
        pos=[*TABLE_CENTRE_M, -0.03],
        rgba=[0.74, 0.68, 0.59, 1.0],
        friction=[1.0, 0.005, 1e-4],
    )
    world.add_geom(name="floor", type=_PLANE, size=[3.0, 3.0, 0.1], pos=[0, 0, -0.75], rgba=[0.38, 0.42, 0.47, 1.0])
    world.add_geom(name="wall", type=_BOX, size=[0.02, 2.5, 1.5], pos=[1.6, 0, 0.75], rgba=[0.62, 0.67, 0.72, 1.0])
    world.add_light(
        name="main",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.2, 0.3, 2.0],
        dir=[0.15, -0.25, -1.0],
        diffuse=[0.48, 0.48, 0.48],
        specular=[0.1, 0.1, 0.1],
        castshadow=False,
    )
    world.add_light(
        name="fill",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.2, -0.5, 2.0],
        dir=[0.4, 0.5, -0.5],
        diffuse=[0.18, 0.18, 0.20],
        specular=[0.0, 0.0, 0.0],
        castshadow=False,
    )
    position = np.array([-0.12, 0.0, 0.72])
    world.add_camera(name="base", pos=position, quat=look_at(position, [0.33, 0.0, 0.0]), fovy=55.0)
    for side, base in BASE_POSITION_M.items():
        add_arm(spec, side, base)
    return spec


def look_at(position_m: ArrayLike, target_m: ArrayLike) -> Array:
    """Quaternion (scalar first, as MuJoCo has it) of a camera that looks at a point, with the picture's up towards the
    world's. float64[4].
    """
    backwards = np.asarray(position_m, dtype=np.float64) - np.asarray(target_m, dtype=np.float64)
    z = backwards / np.linalg.norm(backwards)
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([x, np.cross(z, x), z], axis=1).ravel())
    return quat


def _set_picture_quality(spec: mujoco.MjSpec) -> None:
    """Whatever costs time on a CPU is off: shadows, multisampling, reflections, fine spheres."""
    spec.visual.quality.offsamples = 0
    spec.visual.quality.numslices = 16
    spec.visual.quality.numstacks = 8
    spec.visual.global_.offwidth = spec.visual.global_.offheight = MAX_PICTURE_PX
    spec.visual.headlight.ambient = [0.36, 0.36, 0.36]
    spec.visual.headlight.diffuse = [0.08, 0.08, 0.08]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 10.0
    spec.stat.extent = 1.0
    spec.stat.center = [0.3, 0.0, 0.0]


_BOX, _PLANE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE
