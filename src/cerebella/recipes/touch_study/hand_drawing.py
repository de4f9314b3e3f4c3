"""A hand and its object as simple solids: what films are drawn from."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np
from matplotlib.colors import to_rgb
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from cerebella.geometry import Array, compose, transform
from cerebella.recipes.touch_study.tactile_images import SKIN
from cerebella.touch.fingertip import TIP_SEMI_AXES_M
from cerebella.touch.grasp import FINGERS
from cerebella.touch.hand_model import hand_spec, joint_addresses
from cerebella.touch.objects import Shape
from cerebella.types import FloatArray

_BONE, _OBJECT = "#9aa3ad", "#d9a05b"
_CHAIN = ("proximal", "distal", "tip")
_ROUND, _TIP_RINGS = 28, 7
_LIGHT = np.array([-0.35, -0.75, 0.55])


class HandPose:
    """Where the fingers are, from the joints alone.

    Args:
        shape: of the object in the model; it is not drawn from there.
    """

    def __init__(self, shape: Shape) -> None:
        self._model = hand_spec(shape).compile()
        self._data = mujoco.MjData(self._model)
        self._joints = joint_addresses(self._model)
        self._bodies = [[self._model.body(f"{finger}_{part}").id for part in _CHAIN] for finger in FINGERS]

    def fingers(self, joints: FloatArray) -> tuple[Array, Array]:
        """(chains float64[5, 3, 3] metres: proximal joint, distal joint, tip; tips float64[5, 4, 4]), in the wrist frame."""
        self._data.qpos[self._joints] = joints
        mujoco.mj_kinematics(self._model, self._data)
        chains = np.array([[self._data.xpos[body] for body in chain] for chain in self._bodies])
        tips = [
            transform(self._data.xmat[chain[-1]].reshape(3, 3), self._data.xpos[chain[-1]]) for chain in self._bodies
        ]
        return chains, np.stack(tips)


@dataclass(frozen=True, eq=False)
class DrawnHand:
    """`fingers`: of `HandPose`. T_world_wrist: float64[4, 4] metres. A hand with an alpha below 1 is drawn as a hint."""

    fingers: tuple[Array, Array]
    T_world_wrist: Array
    colour: str = SKIN
    alpha: float = 1.0


def draw_scene(axes: Axes3D, shape: Shape, hands: Sequence[DrawnHand]) -> None:
    """An object in its own frame, and hands around it, millimetres; seen from the back of the four fingers.

    Matplotlib does not know what hides what. So what is behind is drawn first: thumbs, object, fingers from the far one on.
    """
    for hand in hands:
        _draw_finger(axes, hand, 0)
    axes.add_collection3d(_solid(faces_of(shape), _OBJECT, 0.6))
    for number in range(len(FINGERS) - 1, 0, -1):
        for hand in hands:
            _draw_finger(axes, hand, number)
    axes.set(xlim=(-45, 35), ylim=(-45, 45), zlim=(-55, 35))
    axes.set_box_aspect((80, 90, 90), zoom=1.3)  # pyright: ignore[reportArgumentType]  # its default is an int
    axes.view_init(elev=20, azim=-128)
    axes.set_axis_off()


def _draw_finger(axes: Axes3D, hand: DrawnHand, number: int) -> None:
    """Links as lines, the tip as an ellipsoid."""
    chains, tips = hand.fingers
    is_hint = hand.alpha < 1
    x, y, z = 1e3 * (hand.T_world_wrist[:3, :3] @ chains[number].T + hand.T_world_wrist[:3, 3:])
    axes.plot(
        x,
        y,
        z,
        color=hand.colour if is_hint else _BONE,
        linewidth=1.2 if is_hint else 5.0,
        alpha=min(1.0, 2 * hand.alpha),
    )
    axes.add_collection3d(_solid(_ellipsoid(compose(hand.T_world_wrist, tips[number])), hand.colour, hand.alpha))


def _solid(faces: Sequence[Array], colour: str, alpha: float) -> Poly3DCollection:
    """Faces float64[k, 3] in metres, shaded."""
    base, colours = np.array(to_rgb(colour)), []
    for face in faces:
        normal = np.cross(face[1] - face[0], face[2] - face[1])
        normal = normal / max(float(np.linalg.norm(normal)), 1e-12)
        colours.append((*np.clip(base * (0.72 + 0.28 * float(normal @ _LIGHT)), 0, 1), alpha))
    return Poly3DCollection([1e3 * face for face in faces], facecolors=colours, edgecolors="none")


def _ellipsoid(T_world_tip: Array) -> list[Array]:
    latitude = np.linspace(-np.pi / 2, np.pi / 2, _TIP_RINGS + 1)
    longitude = np.linspace(0, 2 * np.pi, 13)
    a, b = np.meshgrid(latitude, longitude, indexing="ij")
    points = np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=-1) * np.array(TIP_SEMI_AXES_M)
    return _quads(points @ T_world_tip[:3, :3].T + T_world_tip[:3, 3])


def faces_of(shape: Shape) -> list[Array]:
    """The surface of an object in its own frame: faces float64[4, 3], metres."""
    middle = np.array([0.0, 0.0, shape.centre_z_m])
    half = np.array([shape.thickness_m, shape.width_m, shape.height_m]) / 2
    if shape.kind == "plate":
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
        ring = np.column_stack([corners[:, 0], corners[:, 1]])
        levels = np.stack([np.column_stack([ring, np.full(5, z)]) for z in (-1.0, 1.0)]) * half
        return [*_quads(levels + middle), *(level[:4] + middle for level in levels)]
    angle = np.linspace(0, 2 * np.pi, _ROUND + 1)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    axis, radius, length = (0, half[1], half[0]) if shape.kind == "disk" else (1, half[0], half[1])
    levels = []
    for end in (-length, length):
        level = np.zeros((_ROUND + 1, 3))
        level[:, [i for i in range(3) if i != axis]] = radius * circle
        level[:, axis] = end
        levels.append(level)
    stacked = np.stack(levels) + middle
    return [*_quads(stacked), *(face for level in stacked for face in _fan(level))]


def _fan(ring: Array) -> list[Array]:
    """A filled ring, float64[k, 3] that ends where it begins, as triangles with a corner twice.

    All faces of a solid must have equally many corners: Matplotlib fills missing ones with numbers out of nowhere, and takes
    the limits of the axes from them.
    """
    middle = ring[:-1].mean(axis=0)
    return [np.array([middle, a, b, b]) for a, b in pairwise(ring)]


def _quads(grid: Array) -> list[Array]:
    """The cells of a grid of points, float64[rows, columns, 3]."""
    rows, columns = grid.shape[:2]
    corners = ((0, 0), (0, 1), (1, 1), (1, 0))
    return [np.array([grid[i + a, j + b] for a, b in corners]) for i in range(rows - 1) for j in range(columns - 1)]
