"""Grasps in bulk: every shard is one object in one random hand, made from its own seed, by any number of processes.

A shard's seed is (seed of the set, name of the object, number of the shard). So a shard is the same, byte for byte, however
many processes make the set, in which order, and whether or not the run was cut off in between; and a set can grow.
"""

import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, field
from multiprocessing import connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cerebella.touch.grasp import Grasp, TactileWorld
from cerebella.touch.grasp_shards import GraspArrays, read_manifest, shard_name, write_manifest, write_shard
from cerebella.touch.objects import SEEN, Shape, shape_of
from cerebella.touch.sampling import PoseRanges, middle_motion, poses_of, sample_motions
from cerebella.touch.worlds import ParameterRanges, make_world, parameter_ranges

MIN_FINGERS = 2
"""A grasp is kept when the thumb and at least one more finger are in contact."""
MOST_TRIES = 20
"""Poses per wanted grasp after which an object is given up."""

WorldFactory = Callable[[str, Mapping[str, float]], TactileWorld]
"""(name, parameters) -> the world. A function of a module, so that it reaches other processes."""


def never() -> bool:
    """Nobody stops this run."""
    return False


@dataclass(frozen=True)
class GraspPlan:
    """Which grasps to make.

    Args:
        world: of `worlds.WORLDS`, or a name that the factory knows. objects: names, see `objects.shape_of`.
        num_grasps: of all objects together; rounded up to whole shards, the same number for every object.
        seed: of everything. shard_size: grasps per shard.
        ranges: where objects lie. parameters: (low, high) per parameter of the world, drawn once per shard, uniform.

    Raises:
        ValueError: an unknown or repeated object, a number below 1 (seed: below 0), an empty range.
    """

    world: str = "skin"
    objects: tuple[str, ...] = tuple(shape.name for shape in SEEN)
    num_grasps: int = 150_000
    seed: int = 0
    shard_size: int = 500
    ranges: PoseRanges = field(default_factory=PoseRanges)
    parameters: ParameterRanges = field(default_factory=lambda: parameter_ranges("skin"))

    def __post_init__(self) -> None:
        for name in self.objects:
            shape_of(name)
        if not self.objects or len(set(self.objects)) < len(self.objects):
            raise ValueError(f"objects must be one or more different names; got {', '.join(self.objects) or 'none'}")
        for name, least in (("num_grasps", 1), ("shard_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more; got {getattr(self, name)}")
        for name, (low, high) in self.parameters.items():
            if not low <= high:
                raise ValueError(f"the range of the world's {name} must be (low, high); got ({low}, {high})")

    @property
    def num_shards(self) -> int:
        """Shards per object."""
        return -(-self.num_grasps // (len(self.objects) * self.shard_size))

    @property
    def settings(self) -> dict[str, Any]:
        """What all shards of one set share, as JSON has it. Objects and number of grasps are not among it: sets grow."""
        return {
            "world": self.world,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "min_fingers": MIN_FINGERS,
            "ranges": {name: list(limits) for name, limits in asdict(self.ranges).items()},
            "parameters": {name: list(limits) for name, limits in sorted(self.parameters.items())},
        }


def rejection(grasp: Grasp) -> str | None:
    """Why a grasp is not worth keeping: `no_thumb`, `few_fingers`; None if it is."""
    if not grasp.in_contact[0]:
        return "no_thumb"
    return "few_fingers" if grasp.in_contact.sum() < MIN_FINGERS else None


def make_shard(
    plan: GraspPlan,
    object_name: str,
    number: int,
    make: WorldFactory = make_world,
    is_stopped: Callable[[], bool] = never,
) -> tuple[GraspArrays, dict[str, Any]]:
    """One shard, and what the manifest says of it. Its first grasp is the nominal goal, the others are random.

    Raises:
        ValueError: the nominal goal is no grasp, or `MOST_TRIES` poses per grasp did not give enough of them.
        InterruptedError: `is_stopped` said so.
    """
    shape = shape_of(object_name)
    seed = [plan.seed, zlib.crc32(object_name.encode()), number]
    rng = np.random.default_rng(seed)
    parameters = {name: float(rng.uniform(*plan.parameters[name])) for name in sorted(plan.parameters)}
    world = make(plan.world, parameters)
    goal = middle_motion(shape, plan.ranges)
    reason, grasp = _try(world, shape, goal)
    if grasp is None:
        raise ValueError(f"the nominal goal of {object_name} is no grasp ({reason}; world {plan.world} {parameters})")
    kept, rejected = [(goal, grasp)], {"no_thumb": 0, "few_fingers": 0, "unstable": 0}
    for motion in sample_motions(shape, MOST_TRIES * plan.shard_size - 1, rng, plan.ranges):
        if len(kept) == plan.shard_size:
            break
        if is_stopped():
            raise InterruptedError(f"{shard_name(object_name, number)} was not finished")
        reason, grasp = _try(world, shape, motion)
        if grasp is not None:
            kept.append((motion, grasp))
        else:
            rejected[reason] += 1
    if len(kept) < plan.shard_size:
        raise ValueError(
            f"only {len(kept)} of {MOST_TRIES * plan.shard_size} poses of {object_name} gave a grasp ({rejected}; world "
            f"{plan.world} {parameters}); choose narrower ranges of poses"
        )
    arrays = GraspArrays(
        forces=np.stack([grasp.forces for _, grasp in kept]).astype(np.float16),
        joints=np.stack([grasp.joints for _, grasp in kept]).astype(np.float32),
        tip_forces=np.stack([grasp.tip_forces for _, grasp in kept]).astype(np.float32),
        T_wrist_object=np.stack([grasp.T_wrist_object for _, grasp in kept]).astype(np.float32),
        motions=np.stack([motion for motion, _ in kept]).astype(np.float32),
    )
    about = {
        "object": object_name,
        "number": number,
        "seed": seed,
        "world_parameters": parameters,
        "num_kept": len(kept),
        "rejected": rejected,
        "mean_fingers": float(np.mean([grasp.in_contact.sum() for _, grasp in kept])),
    }
    return arrays, about


def generate(
    directory: Path,
    plan: GraspPlan,
    make: WorldFactory = make_world,
    num_processes: int = 1,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Make every shard that is missing; the manifest.

    A run that is cut off, by Ctrl-C or by a kill, leaves whole shards; the next run goes on with the others.

    Args:
        num_processes: 1 works in this process.

    Raises:
        ValueError: the directory holds a set with other settings, names them; or see `make_shard`.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes must be 1 or more; got {num_processes}")
    directory.mkdir(parents=True, exist_ok=True)
    shards = _finished(directory, plan)
    wanted = [(name, number) for number in range(plan.num_shards) for name in plan.objects]
    missing = [job for job in wanted if shard_name(*job) not in shards]
    total, there = len(wanted) * plan.shard_size, (len(wanted) - len(missing)) * plan.shard_size
    with (
        tqdm(total=total, initial=there, desc="grasps", unit="grasp", disable=not show_progress) as bar,
        closing(_made(directory, plan, make, missing, min(num_processes, len(missing)))) as made,
    ):
        for about in made:
            shards[shard_name(about["object"], about["number"])] = about
            write_manifest(directory, plan.settings, shards)
            bar.update(about["num_kept"])
    manifest = read_manifest(directory)
    assert manifest is not None
    return manifest


def _try(world: TactileWorld, shape: Shape, motion: np.ndarray) -> tuple[str, Grasp | None]:
    try:
        grasp = world.grasp(shape, poses_of(motion))
    except RuntimeError:  # the world's word for a simulation that became unstable
        return "unstable", None
    reason = rejection(grasp)
    return (reason, None) if reason else ("", grasp)


def _finished(directory: Path, plan: GraspPlan) -> dict[str, Any]:
    """Shards that are listed and there."""
    manifest = read_manifest(directory)
    if manifest is None:
        return {}
    found = manifest["settings"]
    differing = [name for name in sorted({*found, *plan.settings}) if found.get(name) != plan.settings.get(name)]
    if differing:
        told = "; ".join(f"{name}: {found.get(name)} there, {plan.settings.get(name)} wanted" for name in differing)
        raise ValueError(f"{directory} holds grasps made with other settings ({told}); choose another directory")
    return {name: about for name, about in manifest["shards"].items() if (directory / f"{name}.npz").exists()}


def _made(
    directory: Path, plan: GraspPlan, make: WorldFactory, jobs: Sequence[tuple[str, int]], num_processes: int
) -> Generator[dict[str, Any], None, None]:
    """Make shards; what the manifest says of each, as they are finished."""
    if num_processes < 2:
        for job in jobs:
            yield _make_and_write(directory, plan, make, job)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(num_processes, context, initializer=_begin_worker, initargs=(stop,)) as pool:
        try:
            for future in as_completed([pool.submit(_work, directory, plan, make, job) for job in jobs]):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_stop: Event | None = None
"""In a worker: set when the run ends."""


def _begin_worker(stop: Event) -> None:
    """Leave Ctrl-C to the parent, and never outlive it."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(directory: Path, plan: GraspPlan, make: WorldFactory, job: tuple[str, int]) -> dict[str, Any]:
    assert _stop is not None
    return _make_and_write(directory, plan, make, job, _stop.is_set)


def _make_and_write(
    directory: Path,
    plan: GraspPlan,
    make: WorldFactory,
    job: tuple[str, int],
    is_stopped: Callable[[], bool] = never,
) -> dict[str, Any]:
    arrays, about = make_shard(plan, *job, make, is_stopped)
    write_shard(directory, shard_name(*job), arrays)
    return about
