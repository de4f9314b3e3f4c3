"""Rows as plain text."""

from collections.abc import Sequence

from .rows import Row

_HEAD = ("", "", "p50 ms", "p99 ms", "CPU ms", "times faster [95 %]", "best", "MB", "ops", "limit", "max abs", "cosine")


def table(title: str, rows: Sequence[Row]) -> str:
    """A fixed-width table; `times faster` is the ratio of medians to the first row of the same kind, `best` of minima."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *text])


def _cells(row: Row) -> tuple[str, ...]:
    ratio = row.ratio
    return (
        row.name,
        row.kind if row.full_over_replan is None else f"{row.kind} ({row.full_over_replan:.1f}x cheaper)",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.cpu_ms:.2f}",
        f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
        f"{ratio['minima']:.2f}",
        f"{row.peak_mb:.1f}",
        "-" if row.num_operations is None else str(row.num_operations),
        f"{100 * row.fraction:.0f} %",
        f"{row.max_abs:.1e}",
        f"{row.cosine:.6f}",
    )
