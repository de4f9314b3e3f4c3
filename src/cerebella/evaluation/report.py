"""A report in one HTML file: no script, no external address, pictures and video embedded. Opens from a disk, mails well."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_EMBEDDED_VIDEO_BYTES = 6_000_000
"""A larger video is linked by its file name instead of embedded."""


@dataclass(frozen=True)
class FigureBlock:
    """A picture and the sentence that says what to see in it."""

    caption: str
    png: bytes
    is_wide: bool = False


@dataclass(frozen=True)
class Column:
    """One column of the headline table: `key` may lead into a block (`seam_ratio/p95`); `scale` multiplies, `digits` rounds."""

    label: str
    key: str
    digits: int = 1
    scale: float = 1.0
    unit: str = ""


@dataclass(frozen=True)
class Definition:
    """How a column was computed, for a reader who has never seen it."""

    term: str
    meaning: str
    formula: str = ""


def write_report(
    path: Path,
    result: Mapping[str, Any],
    *,
    title: str,
    lead: str,
    columns: Sequence[Column],
    definitions: Sequence[Definition],
    figures: Sequence[FigureBlock] = (),
    video: Path | None = None,
    video_caption: str = "",
) -> Path:
    """Write the report of a result.

    Args:
        lead: one or two plain sentences under the title.
        columns: of the headline table; one row per row of `result["summary"]`, grouped by delay.
        video: an mp4; embedded if it is small, else linked relative to the report.

    Raises:
        FileNotFoundError: there is no such video.
    """
    parts = [
        f"<h1>{html.escape(title)}</h1><p class=lead>{html.escape(lead)}</p>",
        _facts(result),
        _video(video, video_caption, path.parent) if video is not None else "",
        "<h2>Results</h2>" + _headline_table(result["summary"], columns),
        _definitions(definitions),
        "<h2>Pictures</h2><div class=figures>" + "".join(_figure(block) for block in figures) + "</div>"
        if figures
        else "",
        "<h2>Every episode</h2>" + _episodes(result["episodes"]),
        "<h2>How it was run</h2>" + _conditions(result),
    ]
    page = (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{html.escape(title)}</title>"
        f'<meta name=viewport content="width=device-width, initial-scale=1"><style>{_CSS}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    return path


def _facts(result: Mapping[str, Any]) -> str:
    """The strip under the title: what ran, on what."""
    run, policy, conditions = result["run"], result["policy"], result["conditions"]
    commit = "not a git clone" if run["commit"] is None else run["commit"][:10] + (" + changes" if run["dirty"] else "")
    hardware = run["hardware"]
    facts = {
        "Policy": policy["policy_id"],
        "Suite": result["suite"],
        "Clock": f"{conditions['clock']}, {conditions['rates']['control_hz']:g} Hz",
        "Episodes": f"{len(result['episodes'])}, seed {run['seed']}",
        "Machine": f"{hardware['num_cores']} cores, {hardware['processor'] or hardware['machine']}",
        "Commit": commit,
        "Started": run["started_utc"][:16].replace("T", " ") + " UTC",
    }
    cells = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd></div>" for k, v in facts.items())
    return f"<dl class=facts>{cells}</dl>"


def _headline_table(summary: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    head = "".join(
        f"<th>{html.escape(c.label)}{f'<span>{html.escape(c.unit)}</span>' if c.unit else ''}</th>" for c in columns
    )
    body = []
    previous: Any = None
    for row in sorted(summary, key=lambda row: row["delay"]):
        starts_group = row["delay"] != previous
        previous = row["delay"]
        label = html.escape(str(row.get("delay_label", f"{row['delay']:g}"))) if starts_group else ""
        cells = "".join(f"<td>{_format(_lookup(row, c.key), c)}</td>" for c in columns)
        mode = html.escape(row["mode"])
        body.append(
            f"<tr{' class=first' if starts_group else ''}><th>{label}</th><td class='mode {mode}'>{mode}</td>"
            f"<td><b>{_percent(row['rate'])}</b> <small>{_percent(row['low'])} to {_percent(row['high'])} "
            f"({row['successes']} of {row['episodes']})</small></td>{cells}</tr>"
        )
    return (
        "<div class=scroll><table class=headline><thead><tr><th>delay</th><th>mode</th>"
        f"<th>success<span>95 % interval</span></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _definitions(definitions: Sequence[Definition]) -> str:
    rows = "".join(
        f"<dt>{html.escape(d.term)}</dt><dd>{html.escape(d.meaning)}"
        f"{f' <code>{html.escape(d.formula)}</code>' if d.formula else ''}</dd>"
        for d in definitions
    )
    return (
        f"<details open><summary>What the columns mean</summary><dl class=terms>{rows}</dl></details>" if rows else ""
    )


def _figure(block: FigureBlock) -> str:
    data = base64.b64encode(block.png).decode()
    caption = html.escape(block.caption)
    return (
        f'<figure{" class=wide" if block.is_wide else ""}><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _video(video: Path, caption: str, folder: Path) -> str:
    content = video.read_bytes()
    if len(content) <= MAX_EMBEDDED_VIDEO_BYTES:
        source = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
    else:
        source = html.escape(Path(os.path.relpath(video, folder)).as_posix())
    return (
        f'<figure class=wide><video controls muted loop autoplay playsinline src="{source}"></video>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _episodes(episodes: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(e['cell'])}</td><td>{e['seed']}</td><td class=prompt>{html.escape(e['prompt'])}</td>"
        f"<td>{'yes' if e['success'] else 'no'}</td><td>{e['ticks']}</td><td>{html.escape(e['reason'])}</td></tr>"
        for e in episodes
    )
    head = "".join(f"<th>{name}</th>" for name in ("cell", "seed", "instruction", "success", "ticks", "ended because"))
    return (
        f"<details><summary>{len(episodes)} rows</summary><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _conditions(result: Mapping[str, Any]) -> str:
    run = result["run"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version)
    timing = ", ".join(
        f"{name.removesuffix('_s').replace('_', ' ')} {seconds:.1f} s" for name, seconds in _flat(result["timing"])
    )
    cells = "; ".join(
        f"{c['name']}: H = {c['horizon']}, s = {c['execute_horizon']}, trained prefix up to {c['max_trained_prefix']}"
        for c in result["conditions"]["cells"]
    )
    rows = {
        "command": run["command"],
        "policy": f"{result['policy']['path']} (weights {result['policy']['weights_hash'] or 'none'})",
        "cells": cells,
        "versions": versions,
        "load at the start": ", ".join(f"{x:g}" for x in run["load"]) if run["load"] else "unknown",
        "time spent": timing,
    }
    body = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows.items())
    return f"<dl class=terms>{body}</dl>"


def _flat(timing: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Seconds by name, nested blocks opened; other entries are left out."""
    flat: list[tuple[str, float]] = []
    for name, value in timing.items():
        if isinstance(value, Mapping):
            flat += _flat(value)
        elif name.endswith("_s") and isinstance(value, int | float):
            flat.append((name, float(value)))
    return flat


def _lookup(row: Mapping[str, Any], key: str) -> float | None:
    value: Any = row
    for part in key.split("/"):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _format(value: float | None, column: Column) -> str:
    return "<i>none</i>" if value is None else f"{value * column.scale:.{column.digits}f}"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.0f} %"


_CSS = """
:root{--ink:#1c2026;--muted:#68707a;--line:#e3e5e8;--paper:#fbfbf9;--panel:#ffffff}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:44px 28px 80px}
h1{font-size:34px;line-height:1.15;letter-spacing:-.02em;margin:0 0 10px}
h2{font-size:20px;margin:44px 0 12px;letter-spacing:-.01em}
.lead{font-size:18px;color:var(--muted);max-width:780px;margin:0 0 22px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px 20px;margin:0 0 26px;padding:14px 0;
border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
dt{color:var(--muted);font-size:13px}
.facts dd{margin:0;font-size:14px;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px 8px;white-space:nowrap}
thead th{font-weight:600;color:var(--muted);font-size:12.5px;vertical-align:bottom;border-bottom:1px solid var(--ink)}
thead th span{display:block;font-weight:400}
tbody tr{border-bottom:1px solid var(--line)}
tr.first{border-top:1px solid #b8bec6}
th:first-child,td:first-child,td.mode,.headline th:nth-child(2),.headline td:nth-child(3),.headline th:nth-child(3),
td.prompt{text-align:left}
td small{color:var(--muted)}td i{color:#b0b6bd}
td.mode{font-weight:600}td.sync{color:#5d6975}td.naive{color:#b7660f}td.prefix{color:#0f766e}
.terms{display:grid;grid-template-columns:170px 1fr;gap:7px 22px;font-size:14.5px;margin:10px 0}
.terms dd{margin:0;overflow-wrap:anywhere}
code{font:13px ui-monospace,"DejaVu Sans Mono",monospace;background:#f0f1ef;padding:1px 6px;border-radius:4px;white-space:nowrap}
details{margin:14px 0}summary{cursor:pointer;color:var(--muted);font-size:14px}
figure{margin:0}img,video{width:100%;display:block;border-radius:8px;border:1px solid var(--line);background:var(--panel)}
figcaption{color:var(--muted);font-size:13.5px;margin-top:7px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:28px 24px}
.wide{grid-column:1/-1}
@media (max-width:640px){.figures{grid-template-columns:1fr}.terms{grid-template-columns:1fr}}
"""
