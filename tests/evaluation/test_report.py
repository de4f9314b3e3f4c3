from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.evaluation import plots
from cerebella.evaluation.report import MAX_EMBEDDED_VIDEO_BYTES, Column, Definition, FigureBlock, write_report
from cerebella.evaluation.suites import EvalConfig, evaluate

PNG_SIGNATURE = b"\x89PNG"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return evaluate(EvalConfig("dynamic/conveyor", "expert", "sync", delay=2, episodes=3), show_progress=False)


def write(path: Path, result: dict[str, Any], **options: Any) -> str:
    columns = (Column("idle", "idle_share", 1, 100.0, "%"), Column("jitter", "period_error_ms/p99"))
    write_report(
        path,
        result,
        title="A <title>",
        lead="Lead.",
        columns=columns,
        definitions=(Definition("idle", "m", "f"),),
        **options,
    )
    return path.read_text()


def test_the_report_stands_alone_and_says_the_numbers(result: dict[str, Any], tmp_path: Path) -> None:
    png = plots.figure_to_png(plots.plot_periods({"sync": [0.1, 0.2]}, 33.3))
    video = tmp_path / "small.mp4"
    video.write_bytes(b"not really a video")
    page = write(tmp_path / "report.html", result, figures=[FigureBlock("caption", png)], video=video)
    for forbidden in ("http:", "https:", "//cdn", "<script", "<link", "@import"):
        assert forbidden not in page
    row = result["summary"][0]
    assert f"({row['successes']} of 3)" in page
    assert f"<td>{100 * row['idle_share']:.1f}</td><td><i>none</i></td>" in page
    assert "A &lt;title&gt;" in page
    assert page.count('src="data:image/png;base64,') == 1
    assert page.count('src="data:video/mp4;base64,') == 1


def test_a_large_video_is_linked_instead(result: dict[str, Any], tmp_path: Path) -> None:
    video = tmp_path / "media" / "large.mp4"
    video.parent.mkdir()
    video.write_bytes(b"0" * (MAX_EMBEDDED_VIDEO_BYTES + 1))
    assert 'src="media/large.mp4"' in write(tmp_path / "report.html", result, video=video)
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "report.html", result, video=tmp_path / "missing.mp4")


def test_prompts_cannot_break_the_page(result: dict[str, Any], tmp_path: Path) -> None:
    hostile = dict(result, episodes=[dict(result["episodes"][0], prompt="<b>pick</b> & run")])
    assert "&lt;b&gt;pick&lt;/b&gt; &amp; run" in write(tmp_path / "report.html", hostile)


def test_figures_survive_empty_and_single_values(result: dict[str, Any]) -> None:
    for figure in (
        plots.plot_seams({"sync": np.empty(0), "prefix": [1.0]}),
        plots.plot_reactions({"sync": np.empty(0), "naive": [100.0]}),
        plots.plot_periods({"sync": np.empty(0)}, 33.3),
        plots.plot_delay_curves(result["summary"], "delay, ticks"),
    ):
        assert plots.figure_to_png(figure).startswith(PNG_SIGNATURE)
