"""The hand as a MuJoCo model, built from primitives: five fingers, 11 joints, 6 motors, and one object.

The world frame is the wrist frame (see `grasp`): the hand's base is fixed, gravity is off, and the object is placed by its
mocap pose, which is the same as a wrist that moves around an object at rest. It is a left hand. Every finger has two joints;
the distal one follows the proximal one by an equality constraint. The thumb stands on a third joint that swings it from the
side of the palm to opposite the fingers. Motors are position servos whose torque is limited: told to close, each pushes with
its limit.

How to use it:

    spec = hand_spec(shape)                    # an `MjSpec`: add to it if you like
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[joint_addresses(model)] = OPEN_RAD
    data.ctrl[:] = CLOSED_RAD                  # one target per motor, in the order of MOTORS
    data.mocap_pos[0], data.mocap_quat[0] = ...

Names: joints as in `grasp.JOINTS`; motors as in `MOTORS`; bodies `<finger>_tip`, whose frames are the tip frames of
`fingertip`; geoms `<finger>_tip`, the ellipsoids; body and geom `object`. With `rigid_tips=False` the ellipsoids are there to be
seen only, and something else has to be put on the bodies `<finger>_tip` to touch the object, e.g. one body per taxel with
`spec.body("index_tip").add_body(...)`. What touches the object needs `contype=TOUCHING` and `conaffinity=0`.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from typing import Literal, get_args

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array, quat_xyzw_from_matrix
from cerebella.touch.fingertip import TIP_SEMI_AXES_M
from cerebella.touch.grasp import FINGERS, JOINTS
from cerebella.touch.objects import Shape

Held = Literal["fixed", "free"]

MOTORS: tuple[str, ...] = ("thumb_rotation", *(f"{finger}_proximal" for finger in FINGERS))
"""The six joints that a motor drives."""
TOUCHING = 1
"""`contype` of what touches the object; nothing else collides."""

FINGER_SPACING_M = 17.5e-3
"""Between the middles of neighbouring fingers; a fingertip is 17 mm wide."""
LINK_M = 50e-3
"""From the proximal to the distal joint, and from there to the middle of the tip."""
COUPLING = 0.6
"""Distal angle over proximal angle."""
NOMINAL_RAD = 0.16
"""The proximal angle at which the pads of thumb and fingers are parallel and `NOMINAL_GAP_M` apart."""
NOMINAL_GAP_M = 8e-3
OPPOSED_RAD = 1.5
"""The thumb's rotation at which it is opposite the fingers; at 0 it is beside the palm."""
PAD_FORCE_N: dict[str, float] = {"thumb": 3.6, "index": 1.9, "middle": 1.8, "ring": 1.6, "little": 1.4}
"""What a pad presses with in the nominal grasp, when its motor is at its limit."""

OPEN_RAD: Array = np.array([OPPOSED_RAD, *([-0.1, -0.1 * COUPLING] * 5)])
"""float64[11], in the order of `JOINTS`: opened, with the thumb opposed."""
CLOSED_RAD: Array = np.array([OPPOSED_RAD, *[0.6] * 5])
"""float64[6], in the order of `MOTORS`: where the motors want to go. With nothing in the way they get there."""

CONTACT_DISTANCE_M = 2e-4
"""Rigid tips come to rest so far from the object."""
ANVIL_NM_PER_RAD = 300.0
"""Stiffness of the thumb's motor when the object is free."""

_THUMB_AXIS_M = (-22e-3, -35e-3)
_FREE_DAMPING = 0.01
"""N s/m and N m s/rad."""
_PATCH_M = (3e-3, 1.5e-3)
"""Friction against turning in place and against rolling: as of a soft pad that touches in a patch of some 3 mm radius."""
_STIFF_CONTACT = (0.004, 1.0)
_STIFF_IMPEDANCE = (0.99, 0.999, 0.001, 0.5, 2.0)


def hand_spec(
    shape: Shape,
    *,
    rigid_tips: bool = True,
    held: Held = "fixed",
    friction: float = 0.8,
    force_factor: float = 1.0,
    semi_axes_m: tuple[float, float, float] = TIP_SEMI_AXES_M,
    timestep_s: float = 2e-3,
) -> mujoco.MjSpec:
    """The hand with one object, ready to compile.

    Args:
        shape: of the object. A plate is a box, disks and rods are cylinders; the origin is that of frame O.
        rigid_tips: whether the ellipsoids touch the object.
        held: the object stays where its mocap pose is (`fixed`), or is a free body of 1 gram per cm^3, slowed down by
            damping (`free`). Then the thumb's motor is stiff and strong instead of limited, and serves as the anvil for the
            four fingers, whose forces sum to more than the thumb's.
        friction: Coulomb's coefficient on a free object. On a fixed one rigid tips slide freely: when all is at rest, MuJoCo's
            friction carries nothing there, and only lets fingers jam and creep.
        force_factor: on the torque limits of the motors that close.
        semi_axes_m: of the tips, see `fingertip`.
        timestep_s: of the simulation.

    Raises:
        ValueError: a friction, factor or time step that is not positive, or an unknown `held`.
    """
    if held not in get_args(Held):
        raise ValueError(f"held must be one of {', '.join(get_args(Held))}; got {held!r}")
    for name, value in (("friction", friction), ("force_factor", force_factor), ("timestep_s", timestep_s)):
        if not value > 0.0:
            raise ValueError(f"{name} must be positive; got {value}")
    spec = mujoco.MjSpec()
    spec.modelname = f"hand_{shape.name}"
    spec.compiler.degree = False
    spec.option.timestep = timestep_s
    spec.option.gravity = [0.0, 0.0, 0.0]
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.ccd_tolerance = 1e-8
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    knuckle_x = (
        NOMINAL_GAP_M / 2 + semi_axes_m[0] + LINK_M * (np.sin(NOMINAL_RAD) + np.sin((1 + COUPLING) * NOMINAL_RAD))
    )
    knuckle_z = -LINK_M * (np.cos(NOMINAL_RAD) + np.cos((1 + COUPLING) * NOMINAL_RAD))

    palm = spec.worldbody.add_body(name="palm", pos=[-knuckle_x, 0.0, knuckle_z])
    palm.add_geom(type=_BOX, size=[9e-3, 40e-3, 38e-3], pos=[0.0, 0.0, -45e-3], **_SOLID)
    stand = spec.worldbody.add_body(
        name="thumb_stand", pos=[*_THUMB_AXIS_M, knuckle_z], quat=_turn([0.0, 0.0, 1.0], -OPPOSED_RAD)
    )
    stand.add_joint(name="thumb_rotation", axis=[0.0, 0.0, 1.0], range=[0.0, OPPOSED_RAD + 0.3], **_WORM_JOINT)
    knuckle = np.array([knuckle_x - _THUMB_AXIS_M[0], -_THUMB_AXIS_M[1], 0.0])
    stand.add_geom(type=_CAPSULE, fromto=[0.0, 0.0, -0.02, *knuckle], size=[9e-3, 0.0, 0.0], **_SOLID)
    for number, finger in enumerate(FINGERS):
        if finger == "thumb":
            parent, pos, quat = stand, knuckle, _turn([0.0, 0.0, 1.0], np.pi)
        else:
            parent, pos, quat = palm, [0.0, FINGER_SPACING_M * (number - 2.5), 0.0], [1.0, 0.0, 0.0, 0.0]
        _add_finger(
            spec, parent.add_body(name=f"{finger}_knuckle", pos=pos, quat=quat), finger, rigid_tips, semi_axes_m
        )
    _add_motors(spec, force_factor, held)
    _add_object(spec, shape, held, friction)
    if held == "free":
        spec.option.impratio = 100.0
    if rigid_tips:
        # Contacts at a distance: shallow overlaps of curved bodies are found less reliably.
        spec.geom("object").margin = CONTACT_DISTANCE_M
    return spec


def joint_addresses(model: mujoco.MjModel) -> NDArray[np.int64]:
    """int64[11]: where the joints of `grasp.JOINTS` are in `qpos` (and in `qvel`: a free object comes after the hand)."""
    return np.array([model.joint(name).qposadr[0] for name in JOINTS])


def place_open(model: mujoco.MjModel, data: mujoco.MjData, T_wrist_object: Array) -> None:
    """The open hand, told to close, around a fixed object at `T_wrist_object`, all at rest."""
    mujoco.mj_resetData(model, data)
    data.qpos[joint_addresses(model)] = OPEN_RAD
    data.ctrl[:] = CLOSED_RAD
    x, y, z, w = quat_xyzw_from_matrix(T_wrist_object[:3, :3])
    data.mocap_pos[0], data.mocap_quat[0] = T_wrist_object[:3, 3], (w, x, y, z)


def is_unstable(data: mujoco.MjData) -> bool:
    """Whether MuJoCo has found huge or undefined numbers since the last reset."""
    warnings = mujoco.mjtWarning
    kinds = (warnings.mjWARN_BADQPOS, warnings.mjWARN_BADQVEL, warnings.mjWARN_BADQACC)
    return any(data.warning[kind].number for kind in kinds)


def _add_finger(
    spec: mujoco.MjSpec,
    knuckle: mujoco.MjsBody,
    finger: str,
    rigid_tips: bool,
    semi_axes_m: tuple[float, float, float],
) -> None:
    """Two links and the tip, bending towards the knuckle's x."""
    proximal, distal = f"{finger}_proximal", f"{finger}_distal"
    limit_rad = 1.5
    damping = 0.6 * _torque_nm(finger)
    upper = knuckle.add_body(name=proximal)
    upper.add_joint(name=proximal, axis=[0.0, 1.0, 0.0], range=[-0.3, limit_rad], damping=damping, **_JOINT)
    upper.add_geom(type=_CAPSULE, fromto=[0.0, 0.0, 0.0, 0.0, 0.0, LINK_M], size=[7e-3, 0.0, 0.0], **_SOLID)
    lower = upper.add_body(name=distal, pos=[0.0, 0.0, LINK_M])
    lower.add_joint(name=distal, axis=[0.0, 1.0, 0.0], range=[-0.3, limit_rad], damping=1e-3, **_JOINT)
    lower.add_geom(type=_CAPSULE, fromto=[0.0, 0.0, 0.0, 0.0, 0.0, LINK_M - 8e-3], size=[5.5e-3, 0.0, 0.0], **_SOLID)
    tip_quat = _turn([0.0, 1.0, 0.0], -(1 + COUPLING) * NOMINAL_RAD)
    tip = lower.add_body(name=f"{finger}_tip", pos=[0.0, 0.0, LINK_M], quat=tip_quat)
    tip.add_geom(name=f"{finger}_tip", type=_ELLIPSOID, size=semi_axes_m, **(_PAD if rigid_tips else _UNFELT))
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1=distal,
        name2=proximal,
        data=[0.0, COUPLING, *[0.0] * 10],
        solref=_STIFF_CONTACT,
        solimp=_STIFF_IMPEDANCE,
    )


def _torque_nm(finger: str) -> float:
    """The motor torque behind `PAD_FORCE_N`: force times the pad's way per radian of the proximal joint."""
    lever_m = LINK_M * (np.cos(NOMINAL_RAD) + (1 + COUPLING) * np.cos((1 + COUPLING) * NOMINAL_RAD))
    return PAD_FORCE_N[finger] * lever_m


def _add_motors(spec: mujoco.MjSpec, force_factor: float, held: Held) -> None:
    """Stiff position servos; those that close run into their torque limit."""
    for name in MOTORS:
        torque_nm, stiffness_nm_per_rad = force_factor * _torque_nm(name.split("_")[0]), 30.0
        if name == "thumb_rotation":
            torque_nm, stiffness_nm_per_rad = 1.5, 1000.0  # a worm drive: what presses on the pad hardly turns it
        elif name == "thumb_proximal" and held == "free":
            torque_nm, stiffness_nm_per_rad = 4.0 * torque_nm, ANVIL_NM_PER_RAD
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_position(kp=stiffness_nm_per_rad)
        motor.forcelimited = True
        motor.forcerange = [-torque_nm, torque_nm]


def _add_object(spec: mujoco.MjSpec, shape: Shape, held: Held, friction: float) -> None:
    body = spec.worldbody.add_body(name="object", mocap=held == "fixed")
    if held == "free":
        body.add_joint(name="object", type=mujoco.mjtJoint.mjJNT_FREE, damping=_FREE_DAMPING)
    half = np.array([shape.thickness_m, shape.width_m, shape.height_m]) / 2
    if shape.kind == "plate":
        geom = body.add_geom(type=_BOX, size=half)
    elif shape.kind == "disk":
        geom = body.add_geom(type=_CYLINDER, size=[half[1], half[0], 0.0], quat=_turn([0.0, 1.0, 0.0], np.pi / 2))
    else:
        geom = body.add_geom(type=_CYLINDER, size=[half[0], half[1], 0.0], quat=_turn([1.0, 0.0, 0.0], np.pi / 2))
    geom.name = "object"
    geom.pos = [0.0, 0.0, shape.centre_z_m]
    geom.contype, geom.conaffinity = 0, TOUCHING
    geom.friction = [friction, *_PATCH_M]
    geom.condim = 6 if held == "free" else 1
    geom.priority = 1
    geom.rgba = [0.85, 0.55, 0.2, 1.0]
    geom.solref, geom.solimp = _STIFF_CONTACT, _STIFF_IMPEDANCE


def _turn(axis: list[float], angle_rad: float) -> list[float]:
    """Quaternion, scalar first as MuJoCo has it."""
    return [float(np.cos(angle_rad / 2)), *(float(a * np.sin(angle_rad / 2)) for a in axis)]


_BOX, _CAPSULE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE
_CYLINDER, _ELLIPSOID = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_ELLIPSOID
_WORM_JOINT = {"armature": 1e-2, "damping": 6.0, "limited": True}
_JOINT = {"armature": 1e-3, "limited": True}
_SOLID = {"contype": TOUCHING, "conaffinity": 0, "rgba": [0.62, 0.66, 0.71, 1.0]}
_PAD = {"contype": TOUCHING, "conaffinity": 0, "rgba": [0.06, 0.46, 0.43, 1.0]}
_UNFELT = {**_PAD, "contype": 0}
