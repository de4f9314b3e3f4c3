"""Both tactile worlds against the formula for a skin of springs, and what a grasp costs in the sphere world.

    .venv/bin/python bench/touch_presses.py                          about a minute on one slow core
    .venv/bin/python bench/touch_presses.py --figure presses.png     a picture of six presses instead

Presses with 1, 2 and 4 N: planes tilted by up to 0.06 rad, spheres, edges, each at ten places within two pitches. Told
per kind and world: the largest error of the total force, mean and largest error of the counted area (an edge's jumps by
a row while the edge moves by a pitch), the largest error of the centre of pressure. Then grasps of the fifteen objects:
grasps per second of CPU time in the sphere world, and how well the images of both worlds correlate. Prints one JSON
object as the last line.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.geometry import Array
from cerebella.touch.grasp import NUM_FINGERS, PITCH_M
from cerebella.touch.objects import KINDS, SEEN
from cerebella.touch.press import Indenter, IndenterKind, World, expected, footprint_of, gap, press, shift
from cerebella.touch.sampling import sample_poses
from cerebella.touch.skin import STIFFNESS_N_PER_M
from cerebella.touch.skin_world import SkinWorld
from cerebella.touch.sphere_world import SphereWorld

LOADS_N = (1.0, 2.0, 4.0)
WORLDS: tuple[World, ...] = get_args(World)
SIZES_M: tuple[tuple[IndenterKind, float], ...] = (
    ("flat", 0.0),
    ("sphere", 8e-3),
    ("sphere", 12e-3),
    ("edge", 2e-3),
    ("edge", 3e-3),
    ("edge", 4e-3),
    ("edge", 5e-3),
    ("edge", 8e-3),
)
PICTURED: tuple[tuple[str, Indenter, float], ...] = (
    ("plane", Indenter("flat"), 2.0),
    ("plane, tilted 3 deg", Indenter("flat", tilt_rad=0.05), 2.0),
    ("sphere of 12 mm", Indenter("sphere", 12e-3), 2.0),
    ("sphere of 8 mm, aside", Indenter("sphere", 8e-3, y_m=1.5e-3, z_m=-2e-3), 2.0),
    ("edge of 3 mm", Indenter("edge", 3e-3), 4.0),
    ("edge of 5 mm, aside", Indenter("edge", 5e-3, z_m=1.1e-3), 4.0),
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    places: int = 10
    """of every indenter"""
    grasps: int = 4
    """of each object"""
    figure: Path | None = None
    """draw this PNG and measure nothing"""


def main(options: Options) -> None:
    """Measure, or draw."""
    if options.figure is not None:
        _draw(options.figure)
        return
    rng = np.random.default_rng(0)
    errors = {_label(kind, size_m): _press_errors(kind, size_m, options.places, rng) for kind, size_m in SIZES_M}
    for label, worlds in errors.items():
        for world, told in worlds.items():
            print(f"{label:<12} {world:<8} {told}")
    grasps = _compare(options.grasps, rng)
    print(json.dumps({"bench": "touch_presses", "presses": errors, "grasps": grasps, "run": run_fingerprint(0)}))


def _label(kind: str, size_m: float) -> str:
    return kind if kind == "flat" else f"{kind}_{1e3 * size_m:g}mm"


def _press_errors(kind: IndenterKind, size_m: float, num_places: int, rng: np.random.Generator) -> dict[str, Any]:
    """Per world."""
    rows: dict[str, list[tuple[float, float, float]]] = {world: [] for world in WORLDS}
    for load_n in LOADS_N:
        for y_m, z_m in rng.uniform(-PITCH_M, PITCH_M, (num_places, 2)):
            if kind == "flat":
                indenter = Indenter(kind, tilt_rad=0.06 * z_m / PITCH_M)
            else:
                indenter = Indenter(kind, size_m, y_m=y_m if kind == "sphere" else 0.0, z_m=z_m)
            theory = expected(indenter, load_n, stiffness_n_per_m=STIFFNESS_N_PER_M)
            for world in WORLDS:
                felt = footprint_of(press(world, indenter, load_n))
                centre_mm = 1e3 * np.hypot(felt.y_m - theory.y_m, felt.z_m - theory.z_m)
                rows[world].append((felt.force_n / load_n - 1, felt.area_m2 / theory.area_m2 - 1, centre_mm))
    told = {}
    for world, values in rows.items():
        force, area, centre_mm = np.array(values).T
        told[world] = {
            "force_max": float(f"{np.abs(force).max():.1e}"),
            "area_mean": round(float(area.mean()), 3),
            "area_max": round(float(np.abs(area).max()), 3),
            "area_within_20_percent": round(float((np.abs(area) <= 0.2).mean()), 3),
            "centre_mm_max": round(float(centre_mm.max()), 3),
        }
    return told


def _compare(num_grasps: int, rng: np.random.Generator) -> dict[str, Any]:
    """The same random grasps in both worlds."""
    skin, spheres = SkinWorld(), SphereWorld()
    alike: dict[str, list[float]] = {kind: [] for kind in KINDS}
    seconds: list[float] = []
    for shape in SEEN:
        spheres.grasp(shape, np.eye(4))  # compiles
        for T_wrist_object in sample_poses(shape, num_grasps, rng):
            start_s = time.process_time()
            one = spheres.grasp(shape, T_wrist_object)
            seconds.append(time.process_time() - start_s)
            other = skin.grasp(shape, T_wrist_object)
            for finger in range(NUM_FINGERS):
                if one.in_contact[finger] and other.in_contact[finger]:
                    alike[shape.kind].append(_correlation(one.forces[finger], other.forces[finger]))
    return {
        "spheres_per_cpu_s": round(1.0 / float(np.mean(seconds)), 1),
        "correlation": {
            kind: {name: round(float(of(values)), 3) for name, of in (("median", np.median), ("mean", np.mean))}
            for kind, values in alike.items()
        },
    }


def _correlation(one: Any, other: Any) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _draw(path: Path) -> None:
    """One column per press: both worlds, the outline and centre that the formula gives, the measured centre."""
    figure = Figure(figsize=(1.75 * len(PICTURED), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(WORLDS), len(PICTURED), squeeze=False)
    half_y_mm, half_z_mm = 4.95, 6.05
    y, z = np.meshgrid(np.linspace(-half_y_mm, half_y_mm, 200), np.linspace(-half_z_mm, half_z_mm, 240))
    for column, (title, indenter, load_n) in enumerate(PICTURED):
        theory = expected(indenter, load_n, stiffness_n_per_m=STIFFNESS_N_PER_M)
        images: dict[str, Array] = {world: press(world, indenter, load_n) for world in WORLDS}
        brightest_n = max(image.max() for image in images.values())
        for row, (world, image) in enumerate(images.items()):
            felt, axis = footprint_of(image), axes[row, column]
            extent = (-half_y_mm, half_y_mm, -half_z_mm, half_z_mm)
            axis.imshow(image, extent=extent, vmin=0.0, vmax=brightest_n, cmap="magma")
            pressed = gap(indenter, y / 1e3, z / 1e3) < shift(indenter, load_n, stiffness_n_per_m=STIFFNESS_N_PER_M)
            axis.contour(y, z, pressed, levels=[0.5], colors="w", linewidths=1.0)
            axis.plot(1e3 * theory.y_m, 1e3 * theory.z_m, "k+", markersize=9)
            axis.plot(1e3 * felt.y_m, 1e3 * felt.z_m, "o", color="tab:cyan", markersize=4, markerfacecolor="none")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(
                f"{felt.force_n:.2f} N\n{1e6 * felt.area_m2:.1f} ({1e6 * theory.area_m2:.1f}) mm$^2$", fontsize=8
            )
            if row == 0:
                axis.set_title(f"{title}\n{load_n:g} N", fontsize=8)
            if column == 0:
                axis.set_ylabel({"skin": "elastic skin", "spheres": "sprung spheres"}[world])
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
