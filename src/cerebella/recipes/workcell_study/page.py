"""The page of the study, from the cells alone: tables and pictures. Words that a person wrote are kept apart.

<page>                          Markdown
<page without .md>/             conclusions.md (by hand, taken over word for word), pictures, films, cells.jsonl.gz: all
                                cells and the plan
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cerebella.evaluation.plots import figure_to_png
from cerebella.recipes.study_cells import Cell
from cerebella.recipes.workcell_study import figures, paper, tables
from cerebella.recipes.workcell_study.cells import FORMAT
from cerebella.recipes.workcell_study.comparisons import compare, compare_brains
from cerebella.recipes.workcell_study.names import DEFAULT
from cerebella.recipes.workcell_study.plan import CONTROL_HZ, left_out, plan_table
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.summary import summarise
from cerebella.training.durable_files import write_durably

CONCLUSIONS = "conclusions.md"
COMMAND = "cerebella train study-workcell"


def write_page(study: StudyWorkcell) -> list[Path]:
    """Bundle the cells in `study.runs`, then write the page from the bundle; returns the paths written.

    Raises:
        FileNotFoundError: there are no cells.
    """
    FORMAT.bundle_folder(study.cells, study.bundle, study.planned())
    return [study.bundle, *rebuild(study)]


def rebuild(study: StudyWorkcell) -> list[Path]:
    """Write the page from the bundle beside it, with the plan that the bundle holds; returns the paths written.

    Raises:
        FileNotFoundError: there is no bundle.
    """
    planned, cells = FORMAT.read_bundle(study.bundle)
    told = _Page(StudyWorkcell.of_plan(planned, study.page), cells)
    written = []
    for name, figure in told.pictures().items():
        written.append(study.media / name)
        written[-1].write_bytes(figure_to_png(figure))
    write_durably(study.page, told.text())
    return [*written, study.page]


class _Page:
    """Everything that the page says."""

    def __init__(self, study: StudyWorkcell, cells: Sequence[Cell]) -> None:
        self.study, self.cells = study, cells
        self.rows = summarise(cells)
        self.has_brains = any(cell["kind"] == "retention" for cell in cells)
        self.has_streams = any(cell["kind"] == "stream" for cell in cells)

    def pictures(self) -> dict[str, Figure]:
        """File name -> figure; those without data are left out."""
        found = {
            "claims.png": figures.claims(self.rows, self.study.delays[0]),
            "delays.png": figures.delay_curves(self.rows),
            "retention.png": figures.retention(self.cells),
            "stream.png": figures.streams(self.cells),
        }
        return {name: figure for name, figure in found.items() if figure is not None}

    def text(self) -> str:
        """The page."""
        parts = [
            f"# A workcell policy: waiting, moving on, and what it remembers\n\nWritten by `{COMMAND} --do page` from "
            f"[all cells]({self._link('cells.jsonl.gz')}); `--do rebuild` writes it again. Only the conclusions are by hand.",
            "## Conclusions",
            self._conclusions(),
            "## What was trained and measured",
            self._described(),
            tables.trainings_table(self.cells, self.study.trainings),
            *self._success(),
            *self._retention(),
            *self._stream(),
            *self._films(),
            *self._commands(),
            "## Budget",
            self._spent(),
            plan_table(self.study, self.cells),
            left_out(),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def _conclusions(self) -> str:
        path = self.study.media / CONCLUSIONS
        return path.read_text() if path.is_file() else "None have been written yet."

    def _described(self) -> str:
        study, policy = self.study, self.study.policy
        delays = ", ".join(f"{delay} ({1000 * delay / CONTROL_HZ:.0f} ms)" for delay in sorted(study.delays))
        return (
            f"`{policy.task}` of [the workcell](workcell.md): two arms, three cameras of {policy.render_px} px, 30 commands "
            f"per second, randomisation `{policy.randomisation}`. Every policy has the size `{policy.preset}` and learns from the "
            f"same {policy.episodes} demonstrations of the scripted expert, whose commands miss by {1000 * policy.disturb_m:g} mm; seed "
            f"{policy.seed}, {policy.batch_size} windows per step, chunks of {policy.horizon} rows. Episodes have the seeds "
            f"{study.first_episode_seed} to {study.first_episode_seed + study.episodes - 1}, the same ones for every condition. A "
            f"delay of d ticks lies between every observation and the arrival of its chunk, on the virtual clock: {delays}. "
            f"Executed rows: d + 2, and half a chunk in `sync`. Modes: `prefix` goes on while it thinks, and the new chunk continues "
            f"what was promised; `naive` goes on, and the new chunk knows nothing of it; `sync` stands still."
        )

    def _success(self) -> Iterable[str]:
        if not self.rows:
            return
        yield "## Success and throughput"
        yield from self._picture(
            "claims.png", "Success and throughput at the first delay; the paper's towels beside them"
        )
        yield (
            "In brackets 95 %: Wilson for success, bootstrap over episodes for throughput. Seam: step at a hand-over over the usual "
            "step. Idle: time held after the first plan. Age: of the observation behind a command. Jerk: RMS, m/s^3."
        )
        yield tables.success_table(self.rows)
        yield from self._picture("delays.png", "Success, throughput and hand-overs against the delay")
        yield f"Beside the paper ({paper.SOURCE}), which differs in robot, task and size; only the kind of comparison is the same:"
        yield self._beside_the_paper()
        if found := compare(self.rows):
            yield "### The same episodes, one thing different"
            yield (
                "Success: McNemar's exact test, * where p < 0.05 after Holm's correction over all lines. Parts per minute: bootstrap "
                "over episodes. One training each: another seed of the training may differ by more than these intervals say."
            )
            yield tables.comparison_table(found)

    def _beside_the_paper(self) -> str:
        rates = {(row.training, row.mode, row.delay): row.parts_per_min[0] for row in self.rows}
        delay = self.study.delays[0]
        first = rates.get((DEFAULT, "prefix", delay))
        lines = [f"- Towels per minute: {', '.join(f'{name} {rate}' for name, rate in paper.TOWELS_PER_MIN.items())}."]
        for training, mode, what in ((DEFAULT, "sync", "synchronous"), ("rtc", "prefix", "training-time RTC")):
            other = rates.get((training, mode, delay))
            if first is not None and other:
                ours, theirs = first / other, paper.TOWEL_GAIN
                lines.append(f"- Throughput of moving on over {what}: {ours:.2f} here, {theirs:.2f} there (towels).")
        return "\n".join([*lines, f"- {paper.LEGO}."])

    def _retention(self) -> Iterable[str]:
        if not self.has_brains:
            return
        study = self.study
        yield "## What the brain still understands"
        yield (
            f"The same questions about {study.held_out_episodes} demonstrations that nobody learns from, up to {study.questions} per "
            "family, answered by greedy generation. Blind: somebody who does not look, but knows in hindsight the best constant "
            "answer behind each question's words; an upper bound. Boxes count from an overlap of a half, points within a twentieth of the "
            "picture. The asynchronous stage has no conversations in any training."
        )
        yield from self._picture("retention.png", "Right answers of each brain")
        yield tables.retention_table(self.cells)
        if found := compare_brains(self.cells):
            yield "On the same questions, McNemar's exact test, * where p < 0.05 after Holm's correction:"
            yield tables.brain_table(found)
        yield f"In the paper ({paper.SOURCE}) the same is asked of public benchmarks, behind pre-training:"
        yield tables.paper_table()

    def _stream(self) -> Iterable[str]:
        if not self.has_streams:
            return
        yield "## Half an hour without a break"
        yield "The belt runs on, on the virtual clock; nobody intervenes. The policy moves on while it thinks (`prefix`)."
        yield from self._picture("stream.png", "Parts per minute, missed parts and memory")
        yield tables.stream_table(self.cells)

    def _films(self) -> Iterable[str]:
        films = sorted(path.name for path in self.study.media.glob("*.mp4"))
        if films:
            yield "## Films"
            yield "The base camera, one column per mode; `waits` marks a robot that stands still and thinks."
            yield "\n".join(f"- [{name.removesuffix('.mp4')}]({self._link(name)})" for name in films)

    def _commands(self) -> Iterable[str]:
        changed = _flags(self.study.planned(), StudyWorkcell().planned())
        yield "## Again"
        yield (
            "```\n"
            f"{COMMAND} --do plan{changed}      what there is to run, and its cost\n"
            f"{COMMAND} --do run{changed}       trains and measures what is missing; goes on where it was killed\n"
            f"{COMMAND} --do videos{changed}    the films\n"
            f"{COMMAND} --do page{changed}      this page\n"
            "```"
        )

    def _spent(self) -> str:
        commits = sorted({str(cell["run"]["commit"])[:10] for cell in self.cells})
        machines = sorted({cell["run"]["processor"] for cell in self.cells})
        hours = sum(cell["cpu_s"] for cell in self.cells) / 3600
        return (
            f"{len(self.cells)} cells, {hours:.2f} CPU hours ({', '.join(machines)}; commits {', '.join(commits)}). A training that "
            "was killed and continued, or was there before, counts from the last start of the study."
        )

    def _picture(self, name: str, caption: str) -> Iterable[str]:
        if (self.study.media / name).is_file():
            yield f"![{caption}]({self._link(name)})"

    def _link(self, name: str) -> str:
        return f"{self.study.media.name}/{name}"


def _flags(wanted: Mapping[str, Any], usual: Mapping[str, Any], prefix: str = "") -> str:
    """What has to be said on the command line, where it is not the default."""
    found = ""
    for name, value in wanted.items():
        if isinstance(value, Mapping):
            found += _flags(value, usual[name], f"{prefix}{name}.")
        elif value != usual[name]:
            words = value if isinstance(value, list) else [value]
            found += f" --{prefix}{name.replace('_', '-')} {' '.join(map(str, words))}"
    return found
