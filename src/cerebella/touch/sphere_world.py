"""The other world: five pads of sprung spheres in MuJoCo, in place of rigid tips with a skin computed afterwards."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array, inverse
from cerebella.touch.fingertip import TIP_SEMI_AXES_M
from cerebella.touch.grasp import FINGERS, NUM_FINGERS, Grasp
from cerebella.touch.hand_model import TOUCHING, hand_spec, is_unstable, joint_addresses, place_open
from cerebella.touch.objects import Shape
from cerebella.touch.skin import STIFFNESS_N_PER_M
from cerebella.touch.skin_world import REACH_M
from cerebella.touch.sphere_pad import (
    SPHERE_RADIUS_M,
    TIMESTEP_S,
    SphereParameters,
    add_pad,
    set_options,
    spring_addresses,
    spring_forces,
)

_APPROACH_STEPS, _CHECK_STEPS, _MOST_CHECKS = 400, 20, 75
_AT_REST_N, _AT_REST_RAD_PER_S = 2e-5, 1e-3


class SphereWorld:
    """A `TactileWorld` with another contact model than `SkinWorld`: 516 degrees of freedom, some 12 grasps per second
    and core.

    The free motion is that of the hand with rigid tips, until something is about to touch; then the spheres take over.
    The grasp is read when no taxel has changed by more than 20 uN and no joint is faster than 1 mrad/s for 20 ms, about
    0.15 s later, 1.5 s at most.

    What is different from `SkinWorld`: a pad gives way by some tenths of a millimetre before it carries what a rigid
    tip carries at once, so that the fingers are closed more by a few mrad. Friction keeps what came first, and takes
    part of the motors' force. Skin beside the array carries nothing until the core touches. Spheres that have slid off
    an edge press on the object's side: seen in `tip_forces`, not in the taxels.

    Args:
        stiffness_n_per_m, sphere_radius_m, damping_ratio, friction: see `sphere_pad.SphereParameters`; the friction is
            that of the whole hand.
        curvature_factor, array_y_m, array_z_m, force_factor: as in `SkinWorld`.

    Raises:
        ValueError: a number that must be positive is not, or the array does not fit on the pad (at the first grasp).
    """

    name = "spheres"

    def __init__(
        self,
        *,
        stiffness_n_per_m: float = STIFFNESS_N_PER_M,
        sphere_radius_m: float = SPHERE_RADIUS_M,
        damping_ratio: float = 1.0,
        friction: float = 0.8,
        curvature_factor: float = 1.0,
        array_y_m: float = 0.0,
        array_z_m: float = 0.0,
        force_factor: float = 1.0,
    ) -> None:
        for name, value in (("curvature_factor", curvature_factor), ("force_factor", force_factor)):
            if not value > 0.0:
                raise ValueError(f"{name} must be positive; got {value}")
        self._parameters = SphereParameters(stiffness_n_per_m, sphere_radius_m, damping_ratio, friction)
        self._semi_axes_m = (TIP_SEMI_AXES_M[0] * curvature_factor, *TIP_SEMI_AXES_M[1:])
        self._offset_m = (array_y_m, array_z_m)
        self._force_factor = force_factor
        self._hands: dict[Shape, _Hands] = {}

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        """See `TactileWorld`."""
        inverse(T_wrist_object)  # refuses what is no rigid transform
        distance_m = float(np.linalg.norm(T_wrist_object[:3, 3]))
        if not distance_m <= REACH_M:
            raise ValueError(f"{shape.name} must be within {REACH_M} m of the pinch point; got {distance_m:.3f} m")
        if shape not in self._hands:
            self._hands[shape] = self._build(shape)
        hands = self._hands[shape]
        hands.approach(T_wrist_object)
        forces = hands.settle(self._parameters.stiffness_n_per_m)
        if is_unstable(hands.data):
            raise RuntimeError(
                f"the simulation became unstable: {shape.name} at T_wrist_object = {T_wrist_object.tolist()}"
            )
        return Grasp(
            forces.astype(np.float32),
            hands.data.qpos[hands.joints].astype(np.float32),
            hands.tip_forces().astype(np.float32),
            np.array(T_wrist_object, dtype=np.float64),
        )

    def _build(self, shape: Shape) -> "_Hands":
        options = {
            "friction": self._parameters.friction,
            "force_factor": self._force_factor,
            "semi_axes_m": self._semi_axes_m,
            "timestep_s": TIMESTEP_S,
        }
        rigid = hand_spec(shape, **options).compile()
        spec = hand_spec(shape, rigid_tips=False, **options)
        set_options(spec)
        for finger in FINGERS:
            add_pad(
                spec,
                finger,
                self._parameters,
                touching=TOUCHING,
                semi_axes_m=self._semi_axes_m,
                offset_m=self._offset_m,
            )
        model = spec.compile()
        finger_of_geom = np.full(model.ngeom, NUM_FINGERS)
        for number, finger in enumerate(FINGERS):
            layer = model.body(f"{finger}_layer").id
            finger_of_geom[model.body_parentid[model.geom_bodyid] == layer] = number
            finger_of_geom[model.geom(f"{finger}_core").id] = number
        return _Hands(
            rigid,
            mujoco.MjData(rigid),
            joint_addresses(rigid),
            model,
            mujoco.MjData(model),
            joint_addresses(model),
            np.stack([spring_addresses(model, finger) for finger in FINGERS]),
            finger_of_geom,
        )


@dataclass(frozen=True, eq=False)
class _Hands:
    """The same hand with rigid tips, for the way there, and with pads."""

    rigid_model: mujoco.MjModel
    rigid_data: mujoco.MjData
    rigid_joints: NDArray[np.int64]
    model: mujoco.MjModel
    data: mujoco.MjData
    joints: NDArray[np.int64]
    springs: NDArray[np.int64]
    finger_of_geom: NDArray[np.int64]  # the number of the finger whose tip it is part of, else NUM_FINGERS

    def approach(self, T_wrist_object: Array) -> None:
        """Close until rigid tips or links touch; the pads start from a step before, with the same speed."""
        place_open(self.rigid_model, self.rigid_data, T_wrist_object)
        place_open(self.model, self.data, T_wrist_object)
        for _ in range(_APPROACH_STEPS):
            qpos, qvel = self.rigid_data.qpos.copy(), self.rigid_data.qvel.copy()
            mujoco.mj_step(self.rigid_model, self.rigid_data)
            if self.rigid_data.ncon:  # where the step began
                break
            self.data.qpos[self.joints], self.data.qvel[self.joints] = qpos[self.rigid_joints], qvel[self.rigid_joints]

    def settle(self, stiffness_n_per_m: float) -> Array:
        """Go on until nothing moves; float64[5, 11, 9] newtons."""
        forces = spring_forces(self.data, self.springs, stiffness_n_per_m)
        for _ in range(_MOST_CHECKS):
            before = forces
            mujoco.mj_step(self.model, self.data, _CHECK_STEPS)
            forces = spring_forces(self.data, self.springs, stiffness_n_per_m)
            still = np.abs(self.data.qvel[self.joints]).max() < _AT_REST_RAD_PER_S
            if still and np.abs(forces - before).max() < _AT_REST_N:
                break
        return forces

    def tip_forces(self) -> Array:
        """float64[5] newtons: the normal forces of every tip's contacts, spheres and core, summed."""
        address = self.data.contact.efc_address
        acts = address >= 0
        force_n = self.data.efc_force[address[acts]]  # the first row of an elliptic cone is its normal
        fingers = self.finger_of_geom[self.data.contact.geom[acts]].min(axis=1)
        total_n = np.zeros(NUM_FINGERS + 1)
        np.add.at(total_n, fingers, force_n)
        return total_n[:NUM_FINGERS]
