"""What was run, on what: enough to repeat a result, collected without ever failing."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = ("cerebella", "torch", "transformers", "numpy", "gymnasium", "av")


def run_fingerprint(seed: int) -> dict[str, Any]:
    """The `run` block of a result: commit, dirty, command, seed, versions, hardware, load, started_utc.

    `commit` and `dirty` are None outside a git clone (an installed wheel has none); `load` is the 1, 5 and 15 minute load
    average at the start, None where the system has none: a timing on a busy machine is to be read with care.
    """
    commit, is_dirty = _git_state(Path(__file__).parent)
    return {
        "commit": commit,
        "dirty": is_dirty,
        "command": " ".join(sys.argv),
        "seed": seed,
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": {
            "machine": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor_name(),
            "num_cores": _num_usable_cores(),
            "memory_gb": _memory_gb(),
        },
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and whether tracked files differ from it; (None, None) without git or where this file is not tracked."""
    try:
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        return _git(folder, "rev-parse", "HEAD"), bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _processor_name() -> str:
    """Model name from Linux's cpuinfo, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _num_usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None
