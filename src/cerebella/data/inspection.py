"""One self-contained HTML page about a set: sample frames, plots per dimension, lengths, and what looks wrong."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cerebella.data.checks import Examined, Notice, dimension_names, examine
from cerebella.data.episodes import EpisodeStore
from cerebella.data.inspection_figures import dimension_plots, frame_strip, length_histogram
from cerebella.data.lerobot_info import BOOKKEEPING
from cerebella.data.statistics import Summary

MOST_PLOTTED = 64
"""A feature with more entries (a field of taxels, say) is not plotted."""
_STATISTICS = ("min", "q01", "q50", "q99", "max", "mean", "std")


def inspect_store(store: EpisodeStore, page: Path, num_episodes: int = 3, num_frames: int = 5) -> Examined:
    """Write the page.

    Args:
        num_episodes: episodes to show, spread evenly over the set. num_frames: pictures of each per camera, likewise.

    Raises:
        DataFault: an episode cannot be read. ValueError: no episode.
    """
    examined = examine(store)
    shown = _spread(len(store), num_episodes)
    name = Path(store.name).resolve().name
    parts = [
        f"<h1>{html.escape(name)}</h1>",
        _facts(store, examined),
        _notices(examined.notices),
        "<h2>Sample frames</h2>" + _frames(store, shown, num_frames),
        *(_feature(store, examined, feature, shown) for feature in examined.stats),
        "<h2>Episode lengths</h2>" + _figure(length_histogram(examined.lengths, store.fps), "", "narrow"),
        _tasks(store),
    ]
    title = html.escape(f"Data set {name}")
    page.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_CSS}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n",
        encoding="utf-8",
    )
    return examined


def _facts(store: EpisodeStore, examined: Examined) -> str:
    total = int(examined.lengths.sum())
    cameras = [
        f"{name} ({feature.dtype}, {feature.shape[1]} x {feature.shape[0]})"
        for name, feature in store.features.items()
        if feature.is_picture
    ]
    facts = {
        "robot type": store.robot_type or "not stated",
        "episodes": f"{len(store)}",
        "frames": f"{total} ({total / store.fps / 60:.1f} min)",
        "rate": f"{store.fps:g} frames/s",
        "tasks": f"{len(store.tasks)}",
        "cameras": ", ".join(cameras) or "none",
    }
    entries = "".join(f"<div><dt>{key}</dt><dd>{html.escape(value)}</dd></div>" for key, value in facts.items())
    return f"<dl class=facts>{entries}</dl>"


def _notices(notices: Sequence[Notice]) -> str:
    if not notices:
        return "<h2>To look at</h2><p>Nothing stands out.</p>"
    rows = "".join(
        f"<tr><td class=kind>{notice.kind}</td><td>{html.escape(notice.where)}</td><td>{html.escape(notice.detail)}</td></tr>"
        for notice in notices
    )
    return f"<h2>To look at ({len(notices)})</h2><div class=scroll><table class=notices>{rows}</table></div>"


def _frames(store: EpisodeStore, shown: Sequence[int], num_frames: int) -> str:
    blocks: list[str] = []
    for camera in [name for name, feature in store.features.items() if feature.is_picture]:
        for index in shown:
            info = store.episode(index)
            chosen = _spread(info.length, num_frames)
            strip = frame_strip([store.frames(index, camera, frame, frame + 1)[0] for frame in chosen])
            seconds = ", ".join(f"{frame / store.fps:.1f}" for frame in chosen)
            blocks.append(_figure(strip, f"{camera}, episode {index} at {seconds} s: {'; '.join(info.tasks)}", "strip"))
    return "".join(blocks) or "<p>No camera.</p>"


def _feature(store: EpisodeStore, examined: Examined, name: str, shown: Sequence[int]) -> str:
    summary, names = examined.stats[name], dimension_names(store, name)
    heading = f"<h2>{html.escape(name)}</h2>"
    if name in BOOKKEEPING or len(names) > MOST_PLOTTED:
        return f"{heading}<p>{len(names)} numbers per frame: not plotted.</p>"
    episodes = [
        (index, store.columns(index, [name])[name].reshape(store.episode(index).length, -1).astype(np.float32))
        for index in shown
    ]
    plots = dimension_plots(names, episodes, store.fps, summary["min"].reshape(-1), summary["max"].reshape(-1))
    note = "" if name not in examined.approximate else "<p>Quantiles come from a part of the frames.</p>"
    return heading + _figure(plots, "", "wide") + _table(names, summary) + note


def _table(names: Iterable[str], summary: Summary) -> str:
    head = "".join(f"<th>{statistic}</th>" for statistic in _STATISTICS)
    columns = [summary[statistic].reshape(-1) for statistic in _STATISTICS]
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{column[i]:.4g}</td>' for column in columns)}</tr>"
        for i, name in enumerate(names)
    )
    return f"<details><summary>numbers</summary><div class=scroll><table><tr><th></th>{head}</tr>{body}</table></div></details>"


def _tasks(store: EpisodeStore) -> str:
    entries = "".join(f"<li>{html.escape(text)}</li>" for _, text in sorted(store.tasks.items())[:200])
    return f"<h2>Tasks</h2><ol start=0>{entries}</ol>" if entries else ""


def _figure(png: bytes, caption: str, kind: str) -> str:
    data = base64.b64encode(png).decode()
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    alt = html.escape(caption or "plot")
    return f'<figure class={kind}><img alt="{alt}" src="data:image/png;base64,{data}">{text}</figure>'


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0..count - 1, evenly, the first and last among them."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(wanted, count))})


_CSS = """
*{box-sizing:border-box}
body{margin:0;background:#fbfbf9;color:#1c2026;font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:36px 26px 70px}
h1{font-size:30px;margin:0 0 10px;overflow-wrap:anywhere}h2{font-size:18px;margin:38px 0 10px;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px 20px;padding:12px 0;margin:0;
border-top:1px solid #e3e5e8;border-bottom:1px solid #e3e5e8}
dt{color:#68707a;font-size:13px}dd{margin:0;font-size:14px;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 10px;border-bottom:1px solid #e3e5e8;font-weight:400}
th:first-child,.notices td{text-align:left}.kind{color:#a23b0f;font-weight:600;white-space:nowrap}
figure{margin:0 0 18px}img{max-width:100%;display:block;border:1px solid #e3e5e8;border-radius:6px;background:#fff}
.strip img{width:100%;max-width:1224px}.narrow img{max-width:560px}
figcaption{color:#68707a;font-size:13px;margin-top:5px}summary{cursor:pointer;color:#68707a;font-size:13.5px}
"""
