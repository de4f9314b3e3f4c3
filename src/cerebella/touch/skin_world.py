"""The fast world: rigid fingertips in MuJoCo, and an elastic skin over the contact they come to rest in."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass
from typing import get_args

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array, inverse, transform
from cerebella.touch.fingertip import TIP_SEMI_AXES_M, taxel_positions
from cerebella.touch.grasp import FINGERS, NUM_FINGERS, Grasp
from cerebella.touch.hand_model import (
    ANVIL_NM_PER_RAD,
    CLOSED_RAD,
    MOTORS,
    Held,
    hand_spec,
    is_unstable,
    joint_addresses,
    place_open,
)
from cerebella.touch.objects import Shape
from cerebella.touch.skin import STIFFNESS_N_PER_M, press_in

REACH_M = 0.05
"""An object whose origin is farther from the pinch point is refused."""
_CLOSE_STEPS, _MORE_STEPS, _MOST_STEPS, _LET_GO_STEPS = 250, 25, 1500, 500
_AT_REST_RAD_PER_S = 5e-5
_NUM_BEYOND = 6
_SIDE_COSINE = 0.5
_OUT_OF_THE_PAD = np.array([1.0, 0.0, 0.0])
_THUMB = MOTORS.index("thumb_proximal")


@dataclass(frozen=True, eq=False)
class _Hand:
    """A compiled model with its state, and where things are in it."""

    model: mujoco.MjModel
    data: mujoco.MjData
    joints: NDArray[np.int64]
    tip_bodies: NDArray[np.int64]
    finger_of_geom: NDArray[np.int64]  # the number of the finger whose tip it is, else NUM_FINGERS

    @classmethod
    def of(cls, spec: mujoco.MjSpec) -> "_Hand":
        model = spec.compile()
        finger_of_geom = np.full(model.ngeom, NUM_FINGERS)
        finger_of_geom[[model.geom(f"{finger}_tip").id for finger in FINGERS]] = np.arange(NUM_FINGERS)
        tip_bodies = np.array([model.body(f"{finger}_tip").id for finger in FINGERS])
        return cls(model, mujoco.MjData(model), joint_addresses(model), tip_bodies, finger_of_geom)


class SkinWorld:
    """A `TactileWorld` of more than 100 grasps per second and core.

    The hand closes for 0.5 s in steps of 2 ms, and on until all joints are slower than 0.05 mrad/s. Its rigid tips then
    touch the object in a few points. The normal force of each tip is spread by `skin.press_in` over the taxels, and over
    the skin around them, as if the array went on for six more rows and columns. What the skin around carries is not felt:
    where a contact lies partly or wholly beside the array, the taxels' sum is less than `tip_forces`. The skin ends where
    the ellipsoid is steeper than 60 degrees; a contact on the side of a tip is not felt at all.

    Args:
        stiffness_n_per_m: of the skin under one taxel.
        curvature_factor: on the pad's curvature, by the depth of the ellipsoid.
        array_y_m, array_z_m: the array's place on the pad, from its middle, in the tip frame.
        friction: Coulomb's coefficient on a free object; on a fixed one the rigid tips slide, see `hand_model`.
        force_factor: on the motors' torque limits.
        held: `fixed`: the object stays. `free`: it is held until the hand has closed, then let go. One second later the
            hand is read; the pose of the `Grasp` says where the pads' forces and friction have taken the object.

    Raises:
        ValueError: a number that must be positive is not, the array does not fit on the pad, or an unknown `held`.
    """

    name = "skin"

    def __init__(
        self,
        *,
        stiffness_n_per_m: float = STIFFNESS_N_PER_M,
        curvature_factor: float = 1.0,
        array_y_m: float = 0.0,
        array_z_m: float = 0.0,
        friction: float = 0.8,
        force_factor: float = 1.0,
        held: Held = "fixed",
    ) -> None:
        if held not in get_args(Held):
            raise ValueError(f"held must be one of {', '.join(get_args(Held))}; got {held!r}")
        for name, value in (
            ("stiffness_n_per_m", stiffness_n_per_m),
            ("curvature_factor", curvature_factor),
            ("friction", friction),
            ("force_factor", force_factor),
        ):
            if not value > 0.0:
                raise ValueError(f"{name} must be positive; got {value}")
        self.held: Held = held
        self._stiffness_n_per_m = stiffness_n_per_m
        self._semi_axes_m = (TIP_SEMI_AXES_M[0] * curvature_factor, *TIP_SEMI_AXES_M[1:])
        self._friction, self._force_factor = friction, force_factor
        arrays = [taxel_positions(finger, self._semi_axes_m, (array_y_m, array_z_m), _NUM_BEYOND) for finger in FINGERS]
        points = np.stack([points for points, _ in arrays])
        self._is_skin = ~np.isnan(points[..., 0])
        if not _within(self._is_skin).all():
            raise ValueError(f"an array that is {array_y_m} m, {array_z_m} m off (y, z) does not fit on the fingertip")
        self._points = np.nan_to_num(points)
        self._hands: dict[tuple[Shape, Held], _Hand] = {}

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        """See `TactileWorld`."""
        inverse(T_wrist_object)  # refuses what is no rigid transform
        distance_m = float(np.linalg.norm(T_wrist_object[:3, 3]))
        if distance_m > REACH_M:
            raise ValueError(f"{shape.name} must be within {REACH_M} m of the pinch point; got {distance_m:.3f} m")
        hand = self._hand(shape, "fixed")
        place_open(hand.model, hand.data, T_wrist_object)
        if not _settle(hand):
            raise RuntimeError(f"the hand did not come to rest: {shape.name}, T_wrist_object {T_wrist_object.tolist()}")
        if self.held == "free":
            hand = self._let_go(shape, hand)
        if is_unstable(hand.data):
            raise RuntimeError(f"the grasp became unstable: {shape.name}, T_wrist_object {T_wrist_object.tolist()}")
        at_rest = T_wrist_object.copy() if self.held == "fixed" else _object_pose(hand)
        tip_forces, skin_forces = _contact_forces(hand)
        T_object_wrist = inverse(at_rest)

        def distance_at(shift_m: Array) -> Array:
            distance_m = shape.signed_distance(self._skin_in(T_object_wrist, hand, shift_m))
            return np.where(self._is_skin, distance_m, np.inf)

        forces = _within(press_in(distance_at, skin_forces, self._stiffness_n_per_m))
        joints = hand.data.qpos[hand.joints]
        return Grasp(forces.astype(np.float32), joints.astype(np.float32), tip_forces.astype(np.float32), at_rest)

    def _skin_in(self, T_object_wrist: Array, hand: _Hand, shift_m: Array) -> Array:
        """The skin in frame O, moved out of the pads by float64[5] metres: float64[5, rows, columns, 3] metres."""
        R_wrist_tip = hand.data.xmat[hand.tip_bodies].reshape(NUM_FINGERS, 1, 3, 3)
        R_object_tip = T_object_wrist[:3, :3] @ R_wrist_tip
        p_object_tip = hand.data.xpos[hand.tip_bodies] @ T_object_wrist[:3, :3].T + T_object_wrist[:3, 3]
        points = self._points + shift_m[:, None, None, None] * _OUT_OF_THE_PAD
        return points @ np.swapaxes(R_object_tip, -1, -2) + p_object_tip[:, None, None]

    def _hand(self, shape: Shape, held: Held) -> _Hand:
        """Compiled once per shape."""
        if (shape, held) not in self._hands:
            self._hands[shape, held] = _Hand.of(
                hand_spec(
                    shape,
                    held=held,
                    friction=self._friction,
                    force_factor=self._force_factor,
                    semi_axes_m=self._semi_axes_m,
                )
            )
        return self._hands[shape, held]

    def _let_go(self, shape: Shape, closed: _Hand) -> _Hand:
        """The same hand and object, but nothing holds the object now; the thumb keeps its place and its force."""
        hand = self._hand(shape, "free")
        mujoco.mj_resetData(hand.model, hand.data)
        hand.data.qpos[hand.joints] = closed.data.qpos[closed.joints]
        hand.data.joint("object").qpos = [*closed.data.mocap_pos[0], *closed.data.mocap_quat[0]]
        hand.data.ctrl[:] = CLOSED_RAD
        torque_nm = closed.data.actuator_force[_THUMB]
        hand.data.ctrl[_THUMB] = closed.data.joint("thumb_proximal").qpos[0] + torque_nm / ANVIL_NM_PER_RAD
        mujoco.mj_step(hand.model, hand.data, _LET_GO_STEPS)
        return hand


def _settle(hand: _Hand) -> bool:
    """Close, and go on until nothing moves. False: something still does after 3.5 s, or has become undefined."""
    mujoco.mj_step(hand.model, hand.data, _CLOSE_STEPS)
    for _ in range(_MOST_STEPS // _MORE_STEPS):
        if is_unstable(hand.data):
            return False
        if np.abs(hand.data.qvel).max() < _AT_REST_RAD_PER_S:
            return True
        mujoco.mj_step(hand.model, hand.data, _MORE_STEPS)
    return False


def _object_pose(hand: _Hand) -> Array:
    """`T_wrist_object` of a free object, float64[4, 4]."""
    body = hand.data.body("object")
    return transform(body.xmat.reshape(3, 3), body.xpos)


def _contact_forces(hand: _Hand) -> tuple[Array, Array]:
    """Normal forces of every tip's contacts, summed, newtons: (all of them float64[5], those on its skin float64[5])."""
    contacts, address = hand.data.contact, hand.data.contact.efc_address
    fingers = hand.finger_of_geom[contacts.geom].min(axis=1)
    on_tip = (address >= 0) & (fingers < NUM_FINGERS)
    fingers, force_n = fingers[on_tip], hand.data.efc_force[address[on_tip]]  # the first row of a cone is its normal
    pad_axes = hand.data.xmat[hand.tip_bodies[fingers]][:, ::3]
    cosine = np.abs((contacts.frame[on_tip, :3] * pad_axes).sum(axis=1))
    total_n, on_skin_n = np.zeros(NUM_FINGERS), np.zeros(NUM_FINGERS)
    np.add.at(total_n, fingers, force_n)
    np.add.at(on_skin_n, fingers, np.where(cosine >= _SIDE_COSINE, force_n, 0.0))
    return total_n, on_skin_n


def _within(skin: NDArray) -> NDArray:
    """The part of a field over the whole skin that the taxels see."""
    return skin[..., _NUM_BEYOND:-_NUM_BEYOND, _NUM_BEYOND:-_NUM_BEYOND]
