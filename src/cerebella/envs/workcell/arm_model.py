"""A light arm with six joints, a parallel gripper and a wrist camera, from primitives.

Its numbers are our own, of the class of desk-top arms (about 0.65 m reach, 1.5 kg payload, 4 kg). Lengths, joint
ranges and frames are those of `arm_kinematics`.

    joint           1 base   2 shoulder   3 elbow   4 forearm   5 wrist   6 hand
    velocity rad/s  3.0      3.0          3.0       3.5         3.5       4.0
    torque N m      30       30           20        8           8         4

The gripper opens 0..80 mm, at up to 0.25 m/s, and presses with up to 25 N on each pad. The torque limits include what holds
the arm's own weight, which the servos know and compensate.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco
import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.arm_kinematics import (
    FOREARM_M,
    JOINT_HIGH_RAD,
    JOINT_LOW_RAD,
    SHOULDER_HEIGHT_M,
    TOOL_M,
    UPPER_ARM_M,
)
from cerebella.geometry import Array

MAX_VELOCITY_RAD_S: Array = np.array([3.0, 3.0, 3.0, 3.5, 3.5, 4.0])
MAX_TORQUE_NM: Array = np.array([30.0, 30.0, 20.0, 8.0, 8.0, 4.0])
STIFFNESS_NM_RAD: Array = np.array([3000.0, 3000.0, 2000.0, 400.0, 400.0, 200.0])
DAMPING_NMS_RAD: Array = np.array([100.0, 100.0, 55.0, 8.0, 8.0, 4.0])
"""float64[6] each, of the joints' position servos."""
MAX_OPENING_M = 0.08
MAX_GRIPPER_VELOCITY_M_S = 0.25
MAX_GRIP_FORCE_N = 25.0
"""On each pad."""
TIP_M = 0.018
"""From the tool's origin, which is the middle of the pads, to the tips, along the tool's x."""
PAD_HALF_SIZES_M = (TIP_M, 0.003, 0.008)
PAD_FRICTION = (2.0, 0.008, 1e-4)
"""Sliding (1), turning in place (m), rolling (m)."""

HITS: dict[Side, int] = {"left": 2, "right": 4}
"""`contype` of each arm. Whatever has the usual bit 1 is hit by both arms; they hit each other, but not themselves."""

_ARMATURE = (0.3, 0.4, 0.2, 0.03, 0.03, 0.015)
_LIMIT_MARGIN_RAD = 0.05
_BODY_RGBA = (0.90, 0.91, 0.93, 1.0)
_JOINT_RGBA = (0.24, 0.26, 0.30, 1.0)
_PAD_RGBA = (0.10, 0.10, 0.11, 1.0)


def joint_names(side: Side) -> tuple[str, ...]:
    """The six joints, from the base to the hand; their servos have the same names."""
    return tuple(f"{side}_joint_{number}" for number in range(1, 7))


def pad_names(side: Side) -> tuple[str, str]:
    """The geoms that touch what is gripped: at positive y of the tool frame, at negative y."""
    return f"{side}_pad_left", f"{side}_pad_right"


def add_arm(spec: mujoco.MjSpec, side: Side, position_m: tuple[float, float, float]) -> None:
    """Mount an arm on the world, its base frame parallel to the world's.

    Adds the joints `joint_names(side)`, the tendon and servo `{side}_gripper` (its length is the opening, m), the site
    `{side}_tool`, the body `{side}_hand`, the pads `pad_names(side)` and the camera `{side}_wrist`.
    """
    solid = {"contype": HITS[side], "conaffinity": 1 | (HITS["left"] | HITS["right"]) & ~HITS[side]}
    light, dark = {**solid, "rgba": _BODY_RGBA}, {**solid, "rgba": _JOINT_RGBA}
    base = spec.worldbody.add_body(name=f"{side}_base", pos=position_m)
    base.add_geom(type=_CYLINDER, fromto=[0, 0, 0, 0, 0, 0.12], size=[0.055, 0, 0], mass=1.0, **dark)

    turret = _link(base, side, 1, [0.0, 0.0, SHOULDER_HEIGHT_M], [0, 0, 1])
    turret.add_geom(type=_CYLINDER, fromto=[0, 0, -0.06, 0, 0, 0], size=[0.048, 0, 0], mass=0.5, **light)
    upper = _link(turret, side, 2, [0.0, 0.0, 0.0], [0, 1, 0])
    upper.add_geom(type=_CYLINDER, fromto=[0, -0.05, 0, 0, 0.05, 0], size=[0.042, 0, 0], mass=0.3, **dark)
    upper.add_geom(type=_CAPSULE, fromto=[0, 0, 0, UPPER_ARM_M, 0, 0], size=[0.032, 0, 0], mass=0.8, **light)
    fore = _link(upper, side, 3, [UPPER_ARM_M, 0.0, 0.0], [0, 1, 0])
    fore.add_geom(type=_CYLINDER, fromto=[0, -0.042, 0, 0, 0.042, 0], size=[0.036, 0, 0], mass=0.2, **dark)
    fore.add_geom(type=_CAPSULE, fromto=[0, 0, 0, 0.2, 0, 0], size=[0.028, 0, 0], mass=0.4, **light)
    roll = _link(fore, side, 4, [FOREARM_M, 0.0, 0.0], [1, 0, 0])
    roll.add_geom(type=_CAPSULE, fromto=[-0.12, 0, 0, -0.02, 0, 0], size=[0.024, 0, 0], mass=0.2, **light)
    wrist = _link(roll, side, 5, [0.0, 0.0, 0.0], [0, 1, 0])
    wrist.add_geom(type=_CYLINDER, fromto=[0, -0.032, 0, 0, 0.032, 0], size=[0.027, 0, 0], mass=0.15, **dark)
    hand = _link(wrist, side, 6, [0.0, 0.0, 0.0], [1, 0, 0])
    hand.name = f"{side}_hand"
    hand.add_geom(type=_CYLINDER, fromto=[0.02, 0, 0, 0.06, 0, 0], size=[0.026, 0, 0], mass=0.1, **light)
    hand.add_geom(type=_BOX, size=[0.025, 0.046, 0.016], pos=[0.085, 0, 0], mass=0.2, **dark)
    hand.add_site(name=f"{side}_tool", pos=[TOOL_M, 0, 0], size=[0.002, 0.002, 0.002], group=4)
    _add_camera(hand, side)
    _add_fingers(spec, hand, side, solid)
    _add_servos(spec, side)
    for body in spec.bodies:
        if body.name.startswith(f"{side}_"):
            body.gravcomp = 1.0


def _link(parent: mujoco.MjsBody, side: Side, number: int, pos: list[float], axis: list[int]) -> mujoco.MjsBody:
    body = parent.add_body(name=f"{side}_link_{number}", pos=pos)
    i = number - 1
    body.add_joint(
        name=f"{side}_joint_{number}",
        axis=axis,
        range=[JOINT_LOW_RAD[i] - _LIMIT_MARGIN_RAD, JOINT_HIGH_RAD[i] + _LIMIT_MARGIN_RAD],
        limited=True,
        armature=_ARMATURE[i],
        actgravcomp=True,
        actfrclimited=True,
        actfrcrange=[-MAX_TORQUE_NM[i], MAX_TORQUE_NM[i]],
    )
    return body


def _add_camera(hand: mujoco.MjsBody, side: Side) -> None:
    """Beside the hand, in the direction of the tool's z: tips in the lower half of its picture, the tool's y to the left."""
    down = 0.27  # rad, from where the fingers point
    # The axes of a camera: x to the right of the picture, y up; it looks along -z.
    rotation = np.array([[0.0, np.sin(down), -np.cos(down)], [-1.0, 0.0, 0.0], [0.0, np.cos(down), np.sin(down)]])
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    hand.add_camera(name=f"{side}_wrist", pos=[0.02, 0.0, 0.09], quat=quat, fovy=75.0)
    hand.add_geom(
        type=_BOX, size=[0.010, 0.02, 0.012], pos=[0.004, 0, 0.09], mass=0.02, contype=0, conaffinity=0, rgba=_PAD_RGBA
    )


def _add_fingers(spec: mujoco.MjSpec, hand: mujoco.MjsBody, side: Side, solid: dict[str, int]) -> None:
    """Two fingers that slide along the tool's y, coupled, and the tendon that measures their opening."""
    tendon = spec.add_tendon(name=f"{side}_gripper")
    names: list[str] = []
    for name, sign in zip(pad_names(side), (1.0, -1.0), strict=True):
        finger = hand.add_body(name=name.replace("pad", "finger"), pos=[TOOL_M, 0.0, 0.0])
        names.append(finger.name)
        finger.add_joint(
            name=finger.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0.0, sign, 0.0],
            range=[0.0, MAX_OPENING_M / 2],
            limited=True,
            armature=0.3,
        )
        finger.add_geom(
            type=_BOX, size=[0.039, 0.004, 0.007], pos=[-0.021, sign * 0.010, 0], mass=0.03, rgba=_BODY_RGBA, **solid
        )
        finger.add_geom(
            name=name,
            type=_BOX,
            size=PAD_HALF_SIZES_M,
            pos=[0.0, sign * PAD_HALF_SIZES_M[1], 0.0],
            mass=0.01,
            rgba=_PAD_RGBA,
            friction=PAD_FRICTION,
            condim=4,
            priority=1,
            solref=[0.01, 1.0],
            solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
            **solid,
        )
        tendon.wrap_joint(finger.name, 1.0)
    spec.add_equality(
        name=f"{side}_fingers",
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1=names[0],
        name2=names[1],
        data=[0.0, 1.0, *[0.0] * 10],
        solref=[0.01, 1.0],
    )


def _add_servos(spec: mujoco.MjSpec, side: Side) -> None:
    for i, name in enumerate(joint_names(side)):
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=STIFFNESS_NM_RAD[i], kv=DAMPING_NMS_RAD[i])
    gripper = spec.add_actuator(name=f"{side}_gripper", target=f"{side}_gripper", trntype=mujoco.mjtTrn.mjTRN_TENDON)
    gripper.set_to_position(kp=5000.0, kv=60.0)
    gripper.forcelimited = True
    gripper.forcerange = [-MAX_GRIP_FORCE_N, MAX_GRIP_FORCE_N]


_BOX, _CAPSULE, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
