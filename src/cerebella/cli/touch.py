"""`cerebella touch`: grasps in simulation, and what is learnt from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import tyro

from cerebella.cli.errors import check_name
from cerebella.cli.output import check_json, write_json
from cerebella.cli.touch_objects import object_names


class _TouchCommand(Protocol):
    def run(self) -> int: ...


@dataclass(frozen=True)
class Data:
    """Make a set of simulated grasps, or go on with one that was cut off; `--do inspect` draws a page of it.

    A run that is stopped with Ctrl-C leaves whole shards; the same command goes on where it ended. A larger --num-grasps or
    more objects make an existing set grow.
    """

    out: Path
    """directory of the set"""
    do: Literal["generate", "inspect"] = "generate"
    """make grasps, or write OUT/grasps.png about those that are there"""
    num_grasps: int = 150_000
    """of all objects together; rounded up to whole shards"""
    world: Literal["skin", "spheres"] = "skin"
    """elastic skin on rigid tips (fast), or a sprung sphere per taxel (many times slower)"""
    objects: tuple[str, ...] = ("seen",)
    """names of objects; `seen` and `unseen` stand for the fifteen of the training and the six others"""
    ranges: Literal["default", "wide"] = "default"
    """how far objects may lie from the nominal grasp"""
    num_processes: int = 1
    """processes that grasp; the set does not depend on it"""
    seed: int = 0
    """of everything"""
    shard_size: int = 500
    """grasps per file; each file is one object in one random hand"""
    json: Path | None = None
    """write the counts per object to this file"""

    def run(self) -> int:
        """Print a table per object and the paths."""
        check_json(self.json)
        return self._generate() if self.do == "generate" else self._inspect()

    def _generate(self) -> int:
        from cerebella.touch.grasp_data import GraspPlan, generate
        from cerebella.touch.sampling import pose_ranges
        from cerebella.touch.worlds import parameter_ranges

        plan = GraspPlan(
            world=self.world,
            objects=object_names(self.objects),
            num_grasps=self.num_grasps,
            seed=self.seed,
            shard_size=self.shard_size,
            ranges=pose_ranges(self.ranges),
            parameters=parameter_ranges(self.world),
        )
        manifest = generate(self.out, plan, num_processes=self.num_processes)
        rows = _rows(manifest["shards"])
        _print_rows(rows)
        write_json(self.json, {"directory": str(self.out), "settings": manifest["settings"], "objects": rows})
        print(f"wrote {len(manifest['shards'])} shards and {self.out / 'manifest.json'}")
        return 0

    def _inspect(self) -> int:
        from cerebella.touch.grasp_page import draw_grasps
        from cerebella.touch.grasp_shards import load_grasps, read_manifest

        grasps, page = load_grasps(self.out), self.out / "grasps.png"
        draw_grasps(grasps, page, self.seed)
        manifest = read_manifest(self.out)
        assert manifest is not None
        rows = _rows(manifest["shards"])
        _print_rows(rows)
        print(f"{grasps.num_bytes / 1e6:.0f} MB in memory")
        write_json(self.json, {"directory": str(self.out), "settings": manifest["settings"], "objects": rows})
        print(f"wrote {page}")
        return 0


def _data() -> type[_TouchCommand]:
    return Data


def _train() -> type[_TouchCommand]:
    from cerebella.cli.touch_train import Train  # loads torch

    return Train


def _eval() -> type[_TouchCommand]:
    from cerebella.cli.touch_eval import Eval

    return Eval


def _refine() -> type[_TouchCommand]:
    from cerebella.cli.touch_refine import Refine

    return Refine


def _study() -> type[_TouchCommand]:
    from cerebella.cli.touch_study import Study

    return Study


TOUCH_COMMANDS: Mapping[str, tuple[Callable[[], type[_TouchCommand]], str, str]] = {
    "data": (
        _data,
        "--out DIR [--world skin|spheres] [--do inspect]",
        "simulated grasps: make, continue, look at them",
    ),
    "train": (_train, "--data DIR --out DIR", "a refiner from a set of grasps, or further training of one"),
    "eval": (_eval, "DIR [--world skin|spheres] [--goal fixed|random]", "success, errors and refusals of a refiner"),
    "refine": (_refine, "DIR --object NAME --out DIR", "one refinement: record, picture and film"),
    "study": (_study, "--do plan|run|page|video", "every comparison, in both worlds, and its page"),
}
"""Name -> (its arguments, loaded when they are needed; usage; one line)."""


def touch(words: Sequence[str]) -> int:
    """Run one sub-command."""
    rows = [(f"{name} {usage}", line) for name, (_, usage, line) in TOUCH_COMMANDS.items()]
    width = max(len(head) for head, _ in rows)
    table = "\n".join(f"  {head:<{width}}  {line}" for head, line in rows)
    if not words:
        raise ValueError(f"which command of touch? Known: {', '.join(TOUCH_COMMANDS)}")
    if words[0] in ("-h", "--help"):
        print(f"usage: cerebella touch COMMAND ...\n\ncommands:\n{table}")
        return 0
    name, *rest = words
    check_name("touch command", name, TOUCH_COMMANDS)
    return tyro.cli(TOUCH_COMMANDS[name][0](), args=rest, prog=f"cerebella touch {name}").run()


def _rows(shards: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per object: grasps kept, poses rejected by cause, fingers in contact."""
    rows = []
    for name in sorted({about["object"] for about in shards.values()}):
        mine = [about for about in shards.values() if about["object"] == name]
        num_kept = sum(about["num_kept"] for about in mine)
        rejected = {cause: sum(about["rejected"][cause] for about in mine) for cause in mine[0]["rejected"]}
        mean_fingers = sum(about["mean_fingers"] * about["num_kept"] for about in mine) / num_kept
        rows.append({"object": name, "num_kept": num_kept, "rejected": rejected, "mean_fingers": mean_fingers})
    return rows


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"{'object':<18}{'kept':>8}{'rejected':>10}{'fingers':>9}   why rejected")
    for row in rows:
        causes = ", ".join(f"{cause} {num}" for cause, num in row["rejected"].items() if num)
        total = sum(row["rejected"].values())
        print(f"{row['object']:<18}{row['num_kept']:>8}{total:>10}{row['mean_fingers']:>9.2f}   {causes}".rstrip())
    print(f"{'all':<18}{sum(row['num_kept'] for row in rows):>8}")
