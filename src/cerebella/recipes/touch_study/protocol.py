"""How a trial is drawn: object, goal, start, hand, sensor, fault. After the second version of the paper (arXiv 2509.25746).

A trial has a hand of its own, with a sensor of its own. The goal is shown to this hand; then the sensor drifts, the object
lies elsewhere, and the hand closes around it there. Goals and starts that are no grasp (see `grasp_data.rejection`) are drawn
again, as in the training data; how often is counted.

Every trial has its seed, (seed of the protocol, name of the object, number). So trials can be run in any order, more of them
can be added, and two refiners meet the same ones.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from cerebella.geometry import Array, inverse
from cerebella.recipes.touch_study.erring_hand import ErringHand, JointErrors, RememberingWorld
from cerebella.touch.confidence import ConfidenceLimits
from cerebella.touch.goal import Goal
from cerebella.touch.grasp import FINGERS, NUM_COLUMNS, NUM_FINGERS, NUM_ROWS
from cerebella.touch.grasp_data import MOST_TRIES, rejection
from cerebella.touch.objects import KINDS, SEEN, Shape, shape_of
from cerebella.touch.refinement_steps import RefinerConfig
from cerebella.touch.sampling import nominal_goal, pose_ranges, sample_poses
from cerebella.touch.sensor import Sensor, sensor_ranges
from cerebella.touch.simulated_hand import Faults
from cerebella.touch.worlds import make_world, parameter_ranges

World = Literal["skin", "spheres"]
GoalKind = Literal["fixed", "random"]
Handling = Literal["strict", "mask", "lenient"]
FaultName = str

SENSOR_OF: Mapping[str, str] = {"skin": "trained", "spheres": "wild"}
"""World -> the ranges of its sensors: the world of the training has those of the training, the other one wider ones."""
JOINT_ERRORS: Mapping[str, JointErrors] = {
    "nominal": JointErrors(0.0, 0.0),
    "trained": JointErrors(math.radians(0.5), math.radians(0.3)),
    "wild": JointErrors(math.radians(0.8), math.radians(0.5)),
}
"""Name of a sensor -> how the joints are read beside it."""
OTHER_OBJECT = "other_object"
FAULTS: Mapping[FaultName, Faults] = {
    "none": Faults(),
    **{f"dead_{finger}": Faults(dead_fingers=(finger,)) for finger in FINGERS},
    "dead_taxels_20": Faults(dead_taxel_share=0.2),
    "gain_5": Faults(gain=5.0),
    "gain_10": Faults(gain=10.0),
    "no_object": Faults(is_object_removed=True),
    OTHER_OBJECT: Faults(),
}
"""What happens between the goal and the start. `other_object`: the goal was of another kind of object."""
_STREAMS = ("hand", "start", "sensor", "noise")
_NO_LIMIT = 1e9
_ALL_TAXELS = NUM_FINGERS * NUM_ROWS * NUM_COLUMNS


@dataclass(frozen=True)
class Protocol:
    """What all trials of a cell share.

    Args:
        world: the contact model. goal: `fixed` is the middle of an object's ranges, `random` is drawn like the start.
        sensor: ranges of the random sensors; decides the joint errors too. None is that of the world, see `SENSOR_OF`.
        ranges: of the poses, see `sampling.RANGES`.
        max_steps: wrist moves; 5 as in the second version of the paper, 10 in the first.
        handling: `strict` refuses what the loop refuses by default; `mask` blanks a dead finger; `lenient` refuses nothing
            but missing contact and dead fingers, to see what the other refusals prevent.
        fault: of `FAULTS`. seed: of every draw.

    Raises:
        ValueError: an unknown name.
    """

    world: World = "skin"
    goal: GoalKind = "fixed"
    sensor: str | None = None
    ranges: str = "default"
    max_steps: int = 5
    handling: Handling = "strict"
    fault: FaultName = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        parameter_ranges(self.world)
        sensor_ranges(self.sensor_name)
        pose_ranges(self.ranges)
        for name, known in (
            ("goal", get_args(GoalKind)),
            ("handling", get_args(Handling)),
            ("fault", FAULTS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or above; got {self.seed}")
        _ = self.refiner_config

    @property
    def sensor_name(self) -> str:
        """Of the ranges in use."""
        return SENSOR_OF[self.world] if self.sensor is None else self.sensor

    @property
    def joint_errors(self) -> JointErrors:
        """Of the hand's joints."""
        return JOINT_ERRORS[self.sensor_name]

    @property
    def refiner_config(self) -> RefinerConfig:
        """How the loop runs."""
        if self.handling == "lenient":
            limits = ConfidenceLimits(1, 1.0, 1.0, _ALL_TAXELS, _NO_LIMIT)
            return RefinerConfig(max_steps=self.max_steps, limits=limits)
        on_dead_finger = "mask" if self.handling == "mask" else "refuse"
        return RefinerConfig(max_steps=self.max_steps, on_dead_finger=on_dead_finger)

    def to_json(self) -> dict[str, Any]:
        """Everything that decides a trial, the ranges behind the names included."""
        return {
            **asdict(self),
            "sensor": asdict(sensor_ranges(self.sensor_name)),
            "joint_errors": asdict(self.joint_errors),
            "ranges": asdict(pose_ranges(self.ranges)),
            "hand": dict(parameter_ranges(self.world)),
            "refiner": asdict(self.refiner_config),
            "fault": {"name": self.fault, **asdict(FAULTS[self.fault])},
        }


@dataclass(frozen=True, eq=False)
class Trial:
    """A hand that has closed around an object, and where the object should be.

    Args:
        shape: the object that is held. goal: what the hand should feel. The world's frame is that of the object, so the wrist
            stands at `inv(T_wrist_object)`.
        T_wrist_object_goal: float64[4, 4] metres. num_redrawn: poses (and hands, if the goal is fixed) that were no grasp.
        hand: closed, with its fault. world: which it feels.
    """

    shape: Shape
    goal: Goal
    T_wrist_object_goal: Array
    num_redrawn: int
    hand: ErringHand
    world: RememberingWorld


def draw_trial(protocol: Protocol, object_name: str, number: int) -> Trial:
    """Trial `number` of an object.

    Raises:
        ValueError: an unknown object, or no grasp among `MOST_TRIES` poses.
    """
    shape = shape_of(object_name)
    shown = _of_another_kind(shape) if protocol.fault == OTHER_OBJECT else shape
    seed = [protocol.seed, zlib.crc32(object_name.encode()), number]
    rngs = {name: np.random.default_rng([*seed, i]) for i, name in enumerate(_STREAMS)}
    world, T_goal, num_goals = _hand_and_goal(protocol, shown, rngs["hand"])
    T_start, num_starts = _start(protocol, shape, world, rngs["start"])
    ranges = sensor_ranges(protocol.sensor_name)
    sensor = ranges.draw(rngs["sensor"])
    drifted = ranges.drifted(sensor, rngs["sensor"])
    errors = protocol.joint_errors
    joint_bias = errors.draw_bias(rngs["sensor"])

    def hand_at(held: Shape, T_wrist_object: Array, sensor: Sensor) -> ErringHand:
        at = inverse(T_wrist_object)
        return ErringHand(world, held, np.eye(4), at, sensor, rngs["noise"], joint_bias, errors.noise_rad)

    teacher = hand_at(shown, T_goal, sensor)
    teacher.close()
    goal = Goal.from_readings([teacher.read()], teacher.wrist_pose(), shown.name)
    hand = hand_at(shape, T_start, drifted)
    if protocol.fault != "none":
        hand.faults = FAULTS[protocol.fault]
    hand.close()
    return Trial(shape, goal, T_goal, num_goals + num_starts, hand, world)


def _hand_and_goal(protocol: Protocol, shape: Shape, rng: np.random.Generator) -> tuple[RememberingWorld, Array, int]:
    """A random hand, the goal, and how many were no grasp before."""
    ranges = pose_ranges(protocol.ranges)
    for num_before in range(MOST_TRIES):
        parameters = {name: float(rng.uniform(*limits)) for name, limits in parameter_ranges(protocol.world).items()}
        drawn = sample_poses(shape, 1, rng, ranges)[0]
        T_wrist_object = nominal_goal(shape, ranges) if protocol.goal == "fixed" else drawn
        world = RememberingWorld(make_world(protocol.world, parameters))
        if is_felt(world, shape, T_wrist_object):
            return world, T_wrist_object, num_before
    raise ValueError(
        f"none of {MOST_TRIES} hands and goals gives a grasp of {shape.name} in the world {protocol.world}"
    )


def _start(protocol: Protocol, shape: Shape, world: RememberingWorld, rng: np.random.Generator) -> tuple[Array, int]:
    poses = sample_poses(shape, MOST_TRIES, rng, pose_ranges(protocol.ranges))
    for num_before, T_wrist_object in enumerate(poses):
        if is_felt(world, shape, T_wrist_object):
            return T_wrist_object, num_before
    raise ValueError(f"none of {MOST_TRIES} starts is a grasp of {shape.name} in the world {protocol.world}")


def is_felt(world: RememberingWorld, shape: Shape, T_wrist_object: Array) -> bool:
    """Whether it is a grasp such as those of the training data."""
    try:
        return rejection(world.grasp(shape, T_wrist_object)) is None
    except RuntimeError:  # the world's word for a simulation that became unstable
        return False


def _of_another_kind(shape: Shape) -> Shape:
    """A rod instead of a plate, a plate instead of a disk, a disk instead of a rod; of a similar place in the list."""
    kind = KINDS[KINDS.index(shape.kind) - 1]
    mine = [s.thickness_m for s in SEEN if s.kind == kind]
    nearest = int(np.argmin(np.abs(np.array(mine) - shape.thickness_m)))
    return [s for s in SEEN if s.kind == kind][nearest]
