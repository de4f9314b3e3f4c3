"""A fingertip's skin as one sprung sphere per taxel, as in the TacRefineNet paper.

Every sphere lies inside the ellipsoid of the tip and touches its surface at the taxel. It slides along x of the tip
frame, the pad's direction, against a linear spring; what the spring pushes with is what the taxel feels. All 99 are on
one layer that gives way sideways, in y and z, as rubber does in shear. Below the surface lies a hard core, the bone: it
carries what reaches beyond or beside the array. Spheres and core touch the object, and nothing else.

Why it is so. Without the layer, spheres beside a plate stand higher than those that the plate presses, hook on to its
edge, and keep the finger from closing: single tips then carried 70 N where the motors give 2 N. MuJoCo's contacts are
springs themselves, and as soft as the bodies are light: a sphere of a tenth of a gram would sink into the object. The
armature (inertia of the joint, not of the hand) makes the spheres slow, the high impedance makes the contacts hard: a
taxel that carries 0.3 N overlaps the object by some 0.01 mm, while its spring gives by 0.5 mm. Harder contacts chatter.
The time constant of the contacts is two time steps, the shortest that MuJoCo takes; with longer ones the spheres do not
come to rest on an edge.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array
from cerebella.touch.fingertip import TIP_SEMI_AXES_M, taxel_positions
from cerebella.touch.grasp import NUM_COLUMNS, NUM_ROWS
from cerebella.touch.skin import STIFFNESS_N_PER_M

TIMESTEP_S = 1e-3
"""Of a simulation with sphere pads. At 2 ms the spheres do not come to rest."""
SPHERE_RADIUS_M = 0.1e-3
CORE_DEPTH_M = 1.2e-3
"""From the pad's surface to the core, along x."""

_SPHERE_MASS_KG, _LAYER_MASS_KG = 1e-4, 1e-3
_SPHERE_ARMATURE_KG, _LAYER_ARMATURE_KG = 0.03, 0.05
_SHEAR_FACTOR = 8.0
"""The layer's stiffness over that of one taxel. Rubber has about a third of its Young's modulus in shear, and the usual
contact is some 25 taxels large."""
_CONTACT_TIME_S = 2e-3
_IMPEDANCE = (0.997, 0.997, 0.001, 0.5, 2.0)


@dataclass(frozen=True)
class SphereParameters:
    """What differs between two skins made of spheres.

    Args:
        stiffness_n_per_m: of one spring.
        radius_m: of the spheres. An edge is felt up to one radius beside it.
        damping_ratio: of a sphere on its spring; 1 is critical.
        friction: Coulomb's coefficient on the object.

    Raises:
        ValueError: a number that is not positive, or a radius that reaches down to the core.
    """

    stiffness_n_per_m: float = STIFFNESS_N_PER_M
    radius_m: float = SPHERE_RADIUS_M
    damping_ratio: float = 1.0
    friction: float = 0.8

    def __post_init__(self) -> None:
        for name in ("stiffness_n_per_m", "radius_m", "damping_ratio", "friction"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if self.radius_m >= CORE_DEPTH_M:
            raise ValueError(f"radius_m must be below {CORE_DEPTH_M} m; got {self.radius_m} m")


def set_options(spec: mujoco.MjSpec) -> None:
    """What a simulation with sphere pads needs: short steps, and friction that hardly creeps.

    MuJoCo's friction gives way slowly under any load, so that a closed hand would never come to rest. `impratio` makes
    friction harder than the contacts, the small tolerance lets the solver find these forces. Pyramidal cones chatter.
    """
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 300.0
    spec.option.tolerance = 1e-12


def add_pad(
    spec: mujoco.MjSpec,
    finger: str,
    parameters: SphereParameters,
    *,
    touching: int,
    semi_axes_m: tuple[float, float, float] = TIP_SEMI_AXES_M,
    offset_m: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Put layer, 99 spheres and the core on the body `<finger>_tip`. They touch the geom `object`.

    The layer's body is called `<finger>_layer`, joints and geoms of spheres `<finger>_<row>_<column>`, the core
    `<finger>_core`. The contacts of the spheres are listed one by one (`pair`), which is faster than to search among
    500 bodies.

    Args:
        touching: `contype` of the core; the object's `conaffinity` has it.
        semi_axes_m, offset_m: see `fingertip.taxel_positions`.

    Raises:
        ValueError: the array does not fit on the pad.
    """
    points, normals = taxel_positions(finger, semi_axes_m, offset_m)
    if np.isnan(points).any():
        raise ValueError(f"an array that is {offset_m} m off (y, z) does not fit on the fingertip")
    tip = spec.body(f"{finger}_tip")
    core = tip.add_geom(name=f"{finger}_core", type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, size=semi_axes_m, mass=0.0)
    core.pos = [-CORE_DEPTH_M, 0.0, 0.0]
    core.contype, core.conaffinity = touching, 0
    damping = 2.0 * parameters.damping_ratio * np.sqrt(parameters.stiffness_n_per_m * _SPHERE_ARMATURE_KG)
    layer = tip.add_body(name=f"{finger}_layer", mass=_LAYER_MASS_KG, inertia=[1e-8, 1e-8, 1e-8], explicitinertial=True)
    for axis in ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0]):
        stiffness = _SHEAR_FACTOR * parameters.stiffness_n_per_m
        layer.add_joint(
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            stiffness=stiffness,
            damping=2.0 * parameters.damping_ratio * np.sqrt(stiffness * _LAYER_ARMATURE_KG),
            armature=_LAYER_ARMATURE_KG,
        )
    for row in range(NUM_ROWS):
        for column in range(NUM_COLUMNS):
            name = f"{finger}_{row}_{column}"
            sphere = layer.add_body(pos=points[row, column] - parameters.radius_m * normals[row, column])
            sphere.add_joint(
                name=name,
                type=mujoco.mjtJoint.mjJNT_SLIDE,
                axis=[1.0, 0.0, 0.0],
                stiffness=parameters.stiffness_n_per_m,
                damping=damping,
                armature=_SPHERE_ARMATURE_KG,
            )
            geom = sphere.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[parameters.radius_m, 0.0, 0.0])
            geom.mass = _SPHERE_MASS_KG
            geom.contype, geom.conaffinity = 0, 0
            spec.add_pair(
                geomname1=name,
                geomname2="object",
                condim=3,
                friction=[parameters.friction, parameters.friction, 0.005, 0.0001, 0.0001],
                solref=[_CONTACT_TIME_S, 1.0],
                solimp=_IMPEDANCE,
            )


def spring_addresses(model: mujoco.MjModel, finger: str) -> NDArray[np.int64]:
    """int64[11, 9]: where the springs of one pad are in `qpos`."""
    names = [f"{finger}_{row}_{column}" for row in range(NUM_ROWS) for column in range(NUM_COLUMNS)]
    return np.array([model.joint(name).qposadr[0] for name in names]).reshape(NUM_ROWS, NUM_COLUMNS)


def spring_forces(data: mujoco.MjData, addresses: NDArray[np.int64], stiffness_n_per_m: float) -> Array:
    """float64, as `addresses`: newtons, positive where a sphere is pushed into the pad."""
    return -stiffness_n_per_m * data.qpos[addresses]
