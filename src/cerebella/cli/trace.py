"""`cerebella trace`: look at recorded runs, play them again, compare, draw, and turn them into episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Protocol

import tyro
from tyro.conf import Positional, arg

from cerebella.cli.errors import EXIT_FAILED_CHECK, check_name
from cerebella.cli.output import check_json, write_json

Recorded = Annotated[Positional[Path], arg(metavar="FILE")]
RecordedFiles = Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE...")]


class _TraceCommand(Protocol):
    def run(self) -> int: ...


@dataclass(frozen=True)
class Info:
    """Say what is in a recording: policy, robot, mode, how many commands, requests, events, and how they ended."""

    files: RecordedFiles
    """recordings (*.mcap)"""
    json: Path | None = None
    """write it to this file"""

    def run(self) -> int:
        """Print a block per recording."""
        from cerebella.runtime.recording.reader import read_recording
        from cerebella.runtime.recording.tally import describe_recording

        check_json(self.json)
        _need_files(self.files)
        described = [describe_recording(read_recording(path)) for path in self.files]
        for content in described:
            counts = content.pop("counts")
            print("\n".join(f"{name}: {_plain(value)}" for name, value in content.items() if value not in ({}, "")))
            print("\n".join(f"  {name}: {count}" for name, count in counts.items()))
            content["counts"] = counts
        write_json(self.json, {"recordings": described})
        return 0


@dataclass(frozen=True)
class Replay:
    """Play recordings again through a new executor and compare every command bit by bit; exit code 1 if any differs."""

    files: RecordedFiles
    """recordings (*.mcap)"""
    json: Path | None = None
    """write the outcome to this file"""

    def run(self) -> int:
        """One line per recording."""
        from cerebella.runtime.recording.replay import replay

        check_json(self.json)
        _need_files(self.files)
        reports = {path: replay(path) for path in self.files}
        for path, report in reports.items():
            outcome = "equal, bit by bit" if report.is_equal else f"equal; then {report.difference}"
            print(f"{path}: {report.num_equal} of {report.num_commands} commands {outcome}")
        rows = [{"file": str(path), "is_equal": r.is_equal, **asdict(r)} for path, r in reports.items()]
        write_json(self.json, {"replays": rows})
        return 0 if all(report.is_equal for report in reports.values()) else EXIT_FAILED_CHECK


@dataclass(frozen=True)
class Diff:
    """Compare two recordings, command by command; exit code 1 if they differ."""

    first: Recorded
    """a recording (*.mcap)"""
    second: Recorded
    """another one of the same robot"""
    json: Path | None = None
    """write the differences to this file"""
    plot: Path | None = None
    """draw both command streams, with the differing part marked, to this PNG"""

    def run(self) -> int:
        """Print where they part, and by how much."""
        from cerebella.runtime.recording.difference import difference
        from cerebella.runtime.recording.reader import read_recording

        check_json(self.json)
        ours, theirs = read_recording(self.first), read_recording(self.second)
        found = difference(ours, theirs)
        print(found.to_text())
        if self.plot is not None:
            from cerebella.runtime.recording.difference_figure import plot_difference

            self.plot.write_bytes(plot_difference(ours, theirs))
            print(f"wrote {self.plot}")
        write_json(self.json, {"first": str(self.first), "second": str(self.second), **found.to_json()})
        return 0 if found.is_equal else EXIT_FAILED_CHECK


@dataclass(frozen=True)
class Plot:
    """Draw recordings: every dimension of the commands, who decided, requests, delays, events; one PNG each."""

    files: RecordedFiles
    """recordings (*.mcap)"""
    out: Path | None = None
    """where the pictures go, a directory; by default beside each recording"""
    start_s: float = 0.0
    """from so many seconds after the first command"""
    end_s: float = float("inf")
    """to so many seconds after the first command"""

    def run(self) -> int:
        """Print the paths."""
        from cerebella.runtime.recording.figures import plot_recording
        from cerebella.runtime.recording.reader import read_recording

        _need_files(self.files)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        for path in self.files:
            picture = path.with_suffix(".png") if self.out is None else self.out / f"{path.stem}.png"
            picture.write_bytes(plot_recording(read_recording(path), self.start_s, self.end_s))
            print(f"wrote {picture}")
        return 0


@dataclass(frozen=True)
class Export:
    """Write recordings of one robot as a LeRobotDataset v3.0, with labels for interventions and delays."""

    files: RecordedFiles
    """recordings (*.mcap)"""
    out: Annotated[Path, arg(metavar="DIR")]
    """a directory that does not exist yet"""
    task: str | None = None
    """instruction of every frame, instead of the recorded prompts"""
    max_gap: int = 0
    """so many missing ticks are closed; after more a new episode begins"""

    def run(self) -> int:
        """Print what was left out, and the path."""
        from cerebella.runtime.recording.export import export

        _need_files(self.files)
        made = export(self.files, self.out, task=self.task, max_gap=self.max_gap)
        print(f"{made.num_episodes} episodes, {made.num_frames} frames, {made.num_left_out} observations left out")
        if made.num_repeated_pictures:
            print(f"{made.num_repeated_pictures} pictures had not been stored; the ones before them were repeated")
        print(f"wrote {self.out}")
        return 0


@dataclass(frozen=True)
class Recover:
    """Give a recording whose writer was killed its end and its index, in place."""

    file: Recorded
    """a recording (*.mcap)"""

    def run(self) -> int:
        """Print what was found, and the path."""
        from cerebella.runtime.recording.recovery import recover

        found = recover(self.file)
        if found.was_finished:
            print(f"{self.file} is whole: {found.num_messages} messages")
            return 0
        print(f"{found.num_messages} messages; {found.num_lost_bytes} bytes at the end could not be read")
        print(f"wrote {self.file}")
        return 0


TRACE_COMMANDS: Mapping[str, tuple[type[_TraceCommand], str, str]] = {
    "info": (Info, "FILE...", "what is in a recording"),
    "replay": (Replay, "FILE...", "the same inputs into a new executor; exit code 1 unless every command is the same"),
    "diff": (Diff, "FILE FILE", "where two recordings part, and by how much; exit code 1 if they do"),
    "plot": (Plot, "FILE...", "a picture of commands, requests, delays and events"),
    "export": (Export, "FILE... --out DIR", "recordings to LeRobotDataset v3.0, interventions labelled"),
    "recover": (Recover, "FILE", "finish a recording whose writer was killed"),
}
"""Name -> (arguments, usage, one line)."""


def trace(words: Sequence[str]) -> int:
    """Run one sub-command."""
    rows = [(f"{name} {usage}", line) for name, (_, usage, line) in TRACE_COMMANDS.items()]
    width = max(len(head) for head, _ in rows)
    table = "\n".join(f"  {head:<{width}}  {line}" for head, line in rows)
    if not words:
        raise ValueError(f"what to do with the recording? Known: {', '.join(TRACE_COMMANDS)}")
    if words[0] in ("-h", "--help"):
        print(f"usage: cerebella trace COMMAND ...\n\ncommands:\n{table}")
        return 0
    name, *rest = words
    check_name("trace command", name, TRACE_COMMANDS)
    return tyro.cli(TRACE_COMMANDS[name][0], args=rest, prog=f"cerebella trace {name}").run()


def _need_files(files: Sequence[Path]) -> None:
    if not files:
        raise ValueError("which recording? Give one file or more (*.mcap)")


def _plain(value: object) -> object:
    """Lists and mappings on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return ", ".join(str(entry) for entry in value) if isinstance(value, list) else value
