"""The picture of a recording: what was sent, who decided, what was asked, as PNG bytes."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cerebella.embodiment import ActionDimension
from cerebella.runtime.recording.figure_parts import (
    INK,
    SENT,
    STYLE,
    WANTED,
    draw_bands,
    draw_title,
    grid,
    label_row,
    name_dimension,
    png_bytes,
)
from cerebella.runtime.recording.reader import Recording
from cerebella.runtime.recording.timeline import Timeline, timeline

STATES = {
    "start": "#cfe0f7",
    "stop": "#f4c9bd",
    "hold": "#e3e6e9",
    "human": "#fbe2a3",
    "filter": "#cfe9d6",
}
_OUTCOMES = {
    "used": "#0f766e",
    "late": "#d9822b",
    "rejected": "#b3261e",
    "superseded": "#8a94a0",
    "timed out": "#7b4fa3",
    "discarded": "#8a5a2b",
    "in flight": "#b8c4cf",
}
_MOST_NAMES = 24
_MOST_SEAMS = 300
_SILENT_EVENTS = ("human command",)  # one per tick


def plot_recording(recording: Recording, start_s: float = 0.0, end_s: float = float("inf")) -> bytes:
    """Every dimension of the commands over time; bands say who decided, dots where a new chunk took over.

    Below: when requests were under way, and how many ticks each one took. Times in seconds since the first command.

    Raises:
        ValueError: there is no command between the two times, or there are more than 32 dimensions.
    """
    part = timeline(recording, start_s, end_s)
    dimensions = recording.header.metadata.embodiment.actions
    with matplotlib.rc_context(STYLE):
        events = [(seconds, name) for seconds, name in part.events if name not in _SILENT_EVENTS]
        figure, axes = grid(dimensions, more=(0.5, 0.55, 0.9) if events else (0.55, 0.9))
        for column, (dimension, plot) in enumerate(zip(dimensions, axes, strict=False)):
            _draw_states(plot, part)
            _draw_dimension(plot, part, column, dimension)
        if events:
            _draw_events(axes[-3], events)
        _draw_requests(axes[-2], part)
        _draw_delays(axes[-1], part)
        _label(figure, axes, _title(recording))
        figure.legend(handles=_legend(part), loc="outside lower center", ncols=7, fontsize=8)
        return png_bytes(figure)


def _draw_states(plot: Axes, part: Timeline) -> None:
    for state, colour in STATES.items():
        draw_bands(plot, part.spans(state), colour)


def _draw_dimension(plot: Axes, part: Timeline, column: int, dimension: ActionDimension) -> None:
    if not np.array_equal(part.wanted[:, column], part.sent[:, column]):
        _draw_steps(plot, part.seconds, part.wanted[:, column], WANTED, 0.9)
    _draw_steps(plot, part.seconds, part.sent[:, column], SENT, 1.3)
    seams = _seams(part)
    plot.plot(part.seconds[seams], part.sent[seams, column], "o", color=INK, markersize=2.6, zorder=4)
    name_dimension(plot, dimension)


def _seams(part: Timeline) -> np.ndarray:
    """Hand-overs to mark: all, or none where the marks would hide the rest."""
    seams = part.hand_overs()
    return seams if len(seams) <= _MOST_SEAMS else seams[:0]


def _draw_steps(plot: Axes, seconds: np.ndarray, values: np.ndarray, colour: str, width: float) -> None:
    """A command holds until the next one."""
    plot.plot(seconds, values, color=colour, linewidth=width, drawstyle="steps-post", zorder=3)


def _draw_requests(plot: Axes, part: Timeline) -> None:
    """One bar per request from its observation to its answer, in two lanes so that neighbours can be told apart."""
    for outcome, colour in _OUTCOMES.items():
        for lane in (0, 1):
            spans = [(s, e - s) for r, s, e in part.request_spans() if r.outcome == outcome and r.id % 2 == lane]
            plot.broken_barh(spans, (lane + 0.12, 0.76), color=colour, linewidth=0)
    plot.set_ylim(0, 2)
    plot.set_yticks([])
    label_row(plot, "requests")


def _draw_events(plot: Axes, events: Sequence[tuple[float, str]]) -> None:
    """A tick per event; named while there is room."""
    plot.plot([seconds for seconds, _ in events], [0.0] * len(events), "|", color=INK, markersize=7)
    if len(events) <= _MOST_NAMES:
        for i, (seconds, name) in enumerate(events):
            offset = (2, 5 + 9 * (i % 2))
            plot.annotate(name, (seconds, 0), xytext=offset, textcoords="offset points", fontsize=7, va="bottom")
    plot.set_ylim(-0.3, 1)
    plot.set_yticks([])
    label_row(plot, "events")


def _draw_delays(plot: Axes, part: Timeline) -> None:
    """Ticks between observation and answer as dots; the promise as a line through them."""
    answered = [(record, start_s) for record, start_s, _ in part.request_spans() if record.num_ticks_waited >= 0]
    if promised := [(start_s, record.promised_delay) for record, start_s in answered if record.promised_delay]:
        plot.plot(*zip(*promised, strict=True), color=WANTED, linewidth=1, drawstyle="steps-post")
    for outcome, colour in _OUTCOMES.items():
        points = [(start_s, record.num_ticks_waited) for record, start_s in answered if record.outcome == outcome]
        if points:
            plot.plot(*zip(*points, strict=True), "o", color=colour, markersize=3)
    plot.set_ylim(bottom=0)
    plot.margins(y=0.15)
    plot.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    label_row(plot, "delay\nticks")


def _legend(part: Timeline) -> list[Line2D | Patch]:
    states = {record.state for record in part.ticks}
    outcomes = {record.outcome for record in part.requests}
    handles: list[Line2D | Patch] = [Line2D([], [], color=SENT, label="sent")]
    if not np.array_equal(part.sent, part.wanted) or any(record.promised_delay for record in part.requests):
        handles.append(Line2D([], [], color=WANTED, label="wanted, promised"))
    if len(_seams(part)):
        handles.append(Line2D([], [], color=INK, marker="o", linestyle="", markersize=3, label="new chunk"))
    handles += [Patch(color=colour, label=state) for state, colour in STATES.items() if state in states]
    handles += [
        Line2D([], [], color=colour, linewidth=5, label=f"request {outcome}")
        for outcome, colour in _OUTCOMES.items()
        if outcome in outcomes
    ]
    return handles


def _title(recording: Recording) -> str:
    header = recording.header
    rates = f"{header.metadata.embodiment.policy_hz:g}/{header.metadata.embodiment.control_hz:g} Hz"
    config = f"{header.config.mode}, s = {header.config.execute_horizon} of {header.metadata.horizon} rows, {rates}"
    return f"{recording.path.name}: {header.metadata.policy_id}, {header.metadata.embodiment.name}, {config}"


def _label(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    axes[-1].set_xlabel("seconds")
    axes[0].margins(x=0.01)
    draw_title(figure, title)
