"""`cerebella data`: look at data sets, measure, check, convert, generate and repair them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import tyro
from tyro.conf import Positional, arg

from cerebella.cli.errors import EXIT_FAILED_CHECK, check_name
from cerebella.cli.output import check_json, write_json

if TYPE_CHECKING:
    from cerebella.data.episodes import EpisodeStore

Directory = Annotated[Positional[Path], arg(metavar="DIR")]
_MOST_LINES = 200


class _DataCommand(Protocol):
    def run(self) -> int: ...


@dataclass(frozen=True)
class Inspect:
    """Write one HTML page: sample frames, plots per dimension, episode lengths, and what looks wrong."""

    directory: Directory
    """a LeRobotDataset (v3.0, v2.1, v2.0), or XR-0 episodes"""
    out: Path | None = None
    """the page; by default NAME-inspection.html in the working directory"""
    episodes: int = 3
    """how many episodes to show"""
    root: Path | None = None
    """of XR-0 episodes: where the paths of their videos start; by default DIR"""

    def run(self) -> int:
        """Print what looks wrong, and the page's path."""
        from cerebella.data.inspection import inspect_store

        page = self.out or Path(f"{self.directory.resolve().name}-inspection.html")
        examined = inspect_store(_open(self.directory, self.root), page, self.episodes)
        for notice in examined.notices[:_MOST_LINES]:
            print(f"{notice.kind}: {notice.where}: {notice.detail}")
        print(
            f"{len(examined.lengths)} episodes, {int(examined.lengths.sum())} frames, {len(examined.notices)} to look at"
        )
        print(f"wrote {page}")
        return 0


@dataclass(frozen=True)
class Stats:
    """Measure the statistics of every number in a set. Reads columns only, never a video."""

    directory: Directory
    """a LeRobotDataset, or XR-0 episodes"""
    json: Path | None = None
    """write everything to this file, in the form of meta/stats.json"""
    root: Path | None = None
    """of XR-0 episodes: where the paths of their videos start; by default DIR"""

    def run(self) -> int:
        """Print mean, spread and five quantiles per dimension."""
        from cerebella.data.checks import dimension_names
        from cerebella.data.lerobot_files import stats_json
        from cerebella.data.measure import measure_columns

        check_json(self.json)
        store = _open(self.directory, self.root)
        measured = measure_columns(store)
        shown = ("mean", "std", "min", "q01", "q10", "q50", "q90", "q99", "max")
        print(" " * 40 + "".join(f"{name:>11}" for name in shown))
        for feature, summary in measured.stats.items():
            for i, name in enumerate(dimension_names(store, feature)[:_MOST_LINES]):
                label = f"{feature}[{name}]"
                print(f"{label:<40}" + "".join(f"{summary[s].reshape(-1)[i]:>11.4g}" for s in shown))
        if measured.approximate:
            print(f"quantiles from a part of the frames: {', '.join(measured.approximate)}")
        print(f"{measured.num_episodes} episodes, {measured.num_frames} frames")
        write_json(self.json, stats_json(measured.stats))
        return 0


@dataclass(frozen=True)
class Validate:
    """Name every fault of a LeRobotDataset, with its file and episode; exit code 1 if there is any."""

    directory: Directory
    """a LeRobotDataset (v3.0, v2.1, v2.0)"""
    decode: Literal["none", "ends", "all"] = "ends"
    """frames to decode: none, the first and last of every episode, or all"""
    json: Path | None = None
    """write the faults to this file"""

    def run(self) -> int:
        """One line per fault."""
        from cerebella.data.validate import validate

        check_json(self.json)
        faults = validate(self.directory, self.decode)
        for fault in faults[:_MOST_LINES]:
            print(fault)
        if len(faults) > _MOST_LINES:
            print(f"and {len(faults) - _MOST_LINES} more; --json FILE writes all of them")
        broken = {fault.episode for fault in faults if fault.episode is not None}
        print(f"{len(faults)} faults in {len(broken)} episodes" if faults else "no fault found")
        write_json(self.json, {"directory": str(self.directory), "faults": [asdict(fault) for fault in faults]})
        return EXIT_FAILED_CHECK if faults else 0


@dataclass(frozen=True)
class Convert:
    """Write a set as a new LeRobotDataset v3.0. A v2.x set keeps its video packets."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """a LeRobotDataset v2.1 or v2.0, or XR-0 episodes"""
    target: Annotated[Positional[Path], arg(metavar="TARGET")]
    """a directory that does not exist yet"""
    on_fault: Literal["raise", "skip"] = "raise"
    """stop at a broken episode, or leave it out and say so"""
    root: Path | None = None
    """of XR-0 episodes: where the paths of their videos start; by default SOURCE"""

    def run(self) -> int:
        """Print what was left out, and the path."""
        from cerebella.data.convert import convert

        converted = convert(_open(self.source, self.root), self.target, self.on_fault)
        for fault in converted.faults:
            print(f"left out: {fault}")
        print(f"{converted.num_episodes} episodes, {converted.num_frames} frames, {converted.num_skipped} left out")
        print(f"wrote {self.target}")
        return 0


@dataclass(frozen=True)
class Recover:
    """Make a set whole after its writer was killed: every finished episode is in it afterwards."""

    directory: Directory
    """a LeRobotDataset v3.0 that was being written"""

    def run(self) -> int:
        """Print what was found."""
        from cerebella.data.lerobot_writer import recover

        found = recover(self.directory)
        print(f"added {found.num_added} finished episodes; {found.num_unfinished} unfinished ones are lost")
        print(f"{self.directory} has {found.num_episodes} episodes")
        return 0


@dataclass(frozen=True)
class Generate:
    """Let the expert of a workcell task fill a LeRobotDataset v3.0 with demonstrations, and write questions about its pictures.

    Three cameras, numbers and instructions per frame. A run that was killed goes on where it was: give the same command again.
    The same command with more episodes adds to the set.
    """

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """e.g. workcell/lego"""
    episodes: int
    """how many demonstrations the set is to hold"""
    out: Path
    """the set's directory"""
    num_processes: int = 2
    """that play, draw and encode; the set does not depend on it"""
    seed: int = 0
    """of the first attempt; the next ones follow by ones"""
    control_mode: Literal["end_effector", "joint"] = "end_effector"
    """what the actions command"""
    render_px: int = 224
    """height and width of the pictures, pixels, even"""
    randomisation: Literal["none", "mild", "wide"] = "mild"
    """of light, colours, camera poses, friction and delay"""
    fps: int = 30
    """rows per second, a whole divisor of 30"""
    keep_failed: bool = False
    """keep attempts without success as episodes; they are written down in meta/attempts.jsonl either way"""
    codec: Literal["h264", "av1"] = "h264"
    """of the videos; av1 is smaller and takes four times as long"""
    question_every_s: float = 1.0
    """mean seconds between two pictures with questions; 0 for none"""
    disturb_m: float = 0.0
    """standard deviation of an error, metres, that is sent with the expert's commands and not recorded in them, so that
    they show how to come back; fades near things; 0.01 is a good start, 0 is none"""

    def run(self) -> int:
        """Print what was left out, and the path."""
        from cerebella.envs.workcell.tasks import TASKS, make_task, workcell_module

        check_name("task of the workcell", self.task, TASKS)
        workcell_module("environment")  # says how to install MuJoCo
        from cerebella.recipes.workcell_attempt import GenerationSettings
        from cerebella.recipes.workcell_data import generate

        settings = GenerationSettings(
            control_mode=self.control_mode,
            render_px=self.render_px,
            randomisation=self.randomisation,
            fps=self.fps,
            first_seed=self.seed,
            keeps_failed=self.keep_failed,
            codec=self.codec,
            moment_every_s=self.question_every_s,
            disturb_m=self.disturb_m,
        )
        made = generate(make_task(self.task), self.out, self.episodes, settings, self.num_processes)
        for attempt in made.failed[:_MOST_LINES]:
            print(f"seed {attempt.seed} failed after {attempt.num_frames} frames: {attempt.reason}")
        print(f"{made.num_episodes} episodes, {made.num_frames} frames, {len(made.failed)} attempts failed")
        if made.companion is not None:
            talk = made.companion
            print(f"{talk.num_questions} questions in {talk.num_conversations} conversations about their pictures")
        print(f"wrote {self.out}")
        return 0


DATA_COMMANDS: Mapping[str, tuple[type[_DataCommand], str, str]] = {
    "inspect": (Inspect, "DIR", "a page with sample frames, plots, and what looks wrong"),
    "stats": (Stats, "DIR", "statistics of every number, without decoding a video"),
    "validate": (Validate, "DIR", "every fault with its file and episode; exit code 1 if there is any"),
    "convert": (Convert, "SOURCE TARGET", "LeRobotDataset v2.x or XR-0 episodes to LeRobotDataset v3.0"),
    "generate": (Generate, "TASK", "demonstrations of a workcell task, and questions about their pictures"),
    "recover": (Recover, "DIR", "finish a set whose writer was killed"),
}
"""Name -> (arguments, usage, one line)."""


def data(words: Sequence[str]) -> int:
    """Run one sub-command."""
    rows = [(f"{name} {usage}", line) for name, (_, usage, line) in DATA_COMMANDS.items()]
    width = max(len(head) for head, _ in rows)
    table = "\n".join(f"  {head:<{width}}  {line}" for head, line in rows)
    if not words:
        raise ValueError(f"what to do with the data? Known: {', '.join(DATA_COMMANDS)}")
    if words[0] in ("-h", "--help"):
        print(f"usage: cerebella data COMMAND ...\n\ncommands:\n{table}")
        return 0
    name, *rest = words
    check_name("data command", name, DATA_COMMANDS)
    return tyro.cli(DATA_COMMANDS[name][0], args=rest, prog=f"cerebella data {name}").run()


def _open(directory: Path, root: Path | None) -> "EpisodeStore":
    from cerebella.data.formats import open_store

    return open_store(directory, root)
