"""The page of the study, from the cells alone: tables and pictures. Words that a person wrote are kept apart.

<page>                          Markdown
<page without .md>/             conclusions.md (by hand, taken over word for word), pictures, films, cells.jsonl.gz: all
                                cells and the plan
"""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from cerebella.evaluation.plots import figure_to_png
from cerebella.recipes.touch_study import plan
from cerebella.recipes.touch_study.cells import FORMAT
from cerebella.recipes.touch_study.page_parts import Study
from cerebella.recipes.touch_study.study import TouchStudy
from cerebella.training.durable_files import write_durably

CONCLUSIONS = "conclusions.md"


def write_page(study: TouchStudy) -> list[Path]:
    """Bundle the cells in `study.out`, then write the page from the bundle; returns the paths written.

    Raises:
        FileNotFoundError: there are no cells.
    """
    FORMAT.bundle_folder(study.cells, study.bundle, {str(work.name): len(work.units) for work in plan.works(study)})
    return [study.bundle, *rebuild(study)]


def rebuild(study: TouchStudy) -> list[Path]:
    """Write the page from the bundle beside it; returns the paths written.

    Raises:
        FileNotFoundError: there is no bundle.
    """
    told = Study(*FORMAT.read_bundle(study.bundle), study.media.name)
    written = []
    for name, figure in told.pictures.items():
        written.append(study.media / name)
        written[-1].write_bytes(_small_png(figure))
    conclusions = study.media / CONCLUSIONS
    by_hand = conclusions.read_text() if conclusions.is_file() else "None have been written yet."
    films = sorted(path.name for path in study.media.glob("*.mp4"))
    write_durably(study.page, told.text(by_hand, films))
    return [*written, study.page]


def _small_png(figure: Figure) -> bytes:
    """PNG with a palette: a quarter of the size, in a repository that keeps every version."""
    with Image.open(io.BytesIO(figure_to_png(figure))) as picture:
        buffer = io.BytesIO()
        picture.convert("RGB").quantize(colors=192, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
