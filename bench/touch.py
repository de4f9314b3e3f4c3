"""Grasps per second of CPU time in the fast tactile world, the images of all five fingers included.

    .venv/bin/python bench/touch.py              about a minute on one slow core
    MUJOCO_GL=egl .venv/bin/python bench/touch.py --figure hand.png   a picture of three grasps instead

Every round does random grasps of each of the fifteen objects; `physics` is the share of the time that the simulation of the
closing hand takes. Told is the median round. Prints one JSON object as the last line; the gate is 60 per second and core.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import json
import time
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.geometry import Array, so3_exp, transform
from cerebella.touch.grasp import FINGERS
from cerebella.touch.hand_model import hand_spec, place_open
from cerebella.touch.objects import KINDS, SEEN, Shape, shape_of
from cerebella.touch.sampling import sample_poses
from cerebella.touch.skin_world import SkinWorld

GATE_PER_CPU_S = 60.0
CLOSE_STEPS = 250
PICTURED: tuple[tuple[str, Array], ...] = (
    ("plate_5x110x50", transform(so3_exp([0.1, 0.0, 0.0]), np.zeros(3))),
    ("disk_8x110", np.eye(4)),
    ("rod_8x120", transform(so3_exp([-0.1, 0.0, 0.0]), np.zeros(3))),
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    grasps: int = 8
    """of each object, per round"""
    rounds: int = 7
    """the median of so many is told"""
    figure: Path | None = None
    """draw this PNG and measure nothing; needs OpenGL, see MuJoCo's MUJOCO_GL"""


def main(options: Options) -> None:
    """Measure, or draw."""
    if options.figure is not None:
        _draw(options.figure)
        return
    world, rng = SkinWorld(), np.random.default_rng(0)
    for shape in SEEN:
        world.grasp(shape, np.eye(4))  # compiles
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    num_in_contact: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind in KINDS:
            tasks = [(shape, pose) for shape in _of(kind) for pose in sample_poses(shape, options.grasps, rng)]
            start_s = time.process_time()
            grasps = [world.grasp(shape, pose) for shape, pose in tasks]
            seconds[kind].append((time.process_time() - start_s) / len(tasks))
            num_in_contact[kind] += [int(grasp.in_contact.sum()) for grasp in grasps]
    rates = {kind: round(1.0 / float(np.median(values)), 1) for kind, values in seconds.items()}
    mean_s = float(np.mean([np.median(values) for values in seconds.values()]))
    least = {kind: float((np.array(values) >= 3).mean()) for kind, values in num_in_contact.items()}
    every = {kind: float((np.array(values) == 5).mean()) for kind, values in num_in_contact.items()}
    for kind in KINDS:
        print(
            f"{kind:<6} {rates[kind]:>6} grasps/s   {least[kind]:.1%} with 3 fingers or more, {every[kind]:.1%} with 5"
        )
    report = {
        "bench": "touch",
        "grasps_per_cpu_s": round(1.0 / mean_s, 1),
        "gate_per_cpu_s": GATE_PER_CPU_S,
        "passed": 1.0 / mean_s >= GATE_PER_CPU_S,
        "per_kind": rates,
        "share_physics": round(_closing_s() / mean_s, 3),
        "share_three_fingers": {kind: round(value, 4) for kind, value in least.items()},
        "share_five_fingers": {kind: round(value, 4) for kind, value in every.items()},
        "num_grasps": options.rounds * options.grasps * len(SEEN),
        "run": run_fingerprint(0),
    }
    print(json.dumps(report))


def _of(kind: str) -> list[Shape]:
    return [shape for shape in SEEN if shape.kind == kind]


def _closing_s() -> float:
    """CPU time of closing alone, mean over the objects."""
    total_s = 0.0
    for shape in SEEN:
        model = hand_spec(shape).compile()
        data = mujoco.MjData(model)
        place_open(model, data, np.eye(4))
        start_s = time.process_time()
        mujoco.mj_step(model, data, CLOSE_STEPS)
        total_s += time.process_time() - start_s
    return total_s / len(SEEN)


def _draw(path: Path) -> None:
    """Per line the hand with an object, and what its five fingertips feel; row 0, the fingers' end, is at the top."""
    figure = Figure(figsize=(10.0, 6.6), dpi=110, layout="constrained")
    axes = figure.subplots(len(PICTURED), 1 + len(FINGERS), width_ratios=[1.9] + [1.0] * len(FINGERS))
    world, image = SkinWorld(), None
    for line, (name, T_wrist_object) in zip(axes, PICTURED, strict=True):
        shape = shape_of(name)
        line[0].imshow(_render(shape, T_wrist_object))
        line[0].set_title(name, fontsize=9)
        line[0].axis("off")
        grasp = world.grasp(shape, T_wrist_object)
        for plot, finger, forces in zip(line[1:], FINGERS, grasp.forces, strict=True):
            image = plot.imshow(forces, cmap="magma", vmin=0.0, vmax=0.4)
            plot.set_title(f"{finger} {forces.sum():.1f} N", fontsize=9)
            plot.set_xticks([])
            plot.set_yticks([])
    assert image is not None
    figure.colorbar(image, ax=axes[:, -1], label="newtons per taxel", fraction=0.08)
    FigureCanvasAgg(figure).print_png(path)
    print(f"wrote {path}")


def _render(shape: Shape, T_wrist_object: Array) -> np.ndarray:
    spec = hand_spec(shape)
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.45] * 3, [0.6] * 3
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[1.0] * 3,
        rgb2=[1.0] * 3,
        width=8,
        height=8,
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    place_open(model, data, T_wrist_object)
    mujoco.mj_step(model, data, 2 * CLOSE_STEPS)
    camera = mujoco.MjvCamera()
    camera.lookat[:], camera.distance, camera.azimuth, camera.elevation = (0.0, 0.0, -0.02), 0.33, -125.0, -18.0
    with mujoco.Renderer(model, 420, 420) as renderer:
        renderer.update_scene(data, camera)
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        return renderer.render()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
