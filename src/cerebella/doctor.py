"""What this machine can do, and what to install: measured and looked up, nothing assumed.

Works on a half-finished installation: a package that does not load becomes a line of the report, not an error.
"""

import importlib.util
import io
import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

GIB = 2**30

PACKAGES: dict[str, tuple[str, str]] = {
    "torch": ("torch", "models and training"),
    "transformers": ("transformers", "the brain"),
    "tokenizers": ("tokenizers", "the brain's words"),
    "safetensors": ("safetensors", "weights"),
    "gymnasium": ("gymnasium", "simulated tasks"),
    "av": ("av", "video"),
    "matplotlib": ("matplotlib", "plots in the report"),
    "PIL": ("pillow", "pictures"),
    "tqdm": ("tqdm", "progress bars"),
    "pytest": ("pytest", "make test"),
    "hypothesis": ("hypothesis", "make test"),
    "jsonschema": ("jsonschema", "make test"),
    "importlinter": ("import-linter", "make check"),
    "pyright": ("pyright", "make check"),
}
"""Module name -> (name on PyPI, what it is for)."""

NUM_XR0_PARAMETERS = 4_716_274_176
SERVE_XR0_GIB = 9.5
"""Weights in bfloat16 (2 bytes each) are 8.8 GiB; K/V and activations of one request come on top."""

BYTES_PER_TRAINED_PARAMETER = 16
"""float32 weight, gradient, and Adam's two moments. Activations come on top."""

TRAINED_SIZES: dict[str, tuple[float, float]] = {"micro": (3.2e6, 2.0), "nano": (5.4e6, 2.0), "tiny": (15.6e6, 3.0)}
"""Preset -> (parameters, GiB of memory that a training run should find free: data, activations, torch itself)."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, whether it is fine, and what to do if it is not."""

    name: str
    value: str
    is_ok: bool = True
    advice: str = ""


@dataclass(frozen=True)
class Ability:
    """One thing that a person may want to do here. `reason` says what it rests on, or what is missing."""

    name: str
    is_possible: bool
    reason: str


@dataclass(frozen=True)
class Machine:
    """The numbers that the abilities are judged by. Memory and disk in GiB."""

    num_cores: int
    memory_gib: float
    free_memory_gib: float
    free_disk_gib: float
    gpus: tuple[tuple[str, float], ...]
    missing: tuple[str, ...]
    encoders: tuple[str, ...]

    @property
    def gpu_gib(self) -> float:
        """Memory of the largest GPU; 0 without one."""
        return max((memory_gib for _, memory_gib in self.gpus), default=0.0)


@dataclass(frozen=True)
class Report:
    """Everything `cerebella doctor` prints."""

    findings: tuple[Finding, ...]
    abilities: tuple[Ability, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, for `--json`."""
        return asdict(self)

    def to_text(self) -> str:
        """Two tables and, if something is missing, what to type."""
        width = max(len(row.name) for row in (*self.findings, *self.abilities))
        lines = ["What is here"]
        lines += [f"  {'ok ' if f.is_ok else '!! '} {f.name:<{width}}  {f.value}" for f in self.findings]
        lines += ["", "What this machine can do"]
        lines += [f"  {'yes' if a.is_possible else 'no '} {a.name:<{width}}  {a.reason}" for a in self.abilities]
        advice = list(dict.fromkeys(f.advice for f in self.findings if f.advice))
        if advice:
            lines += ["", "What to do", *(f"  {line}" for line in advice)]
        return "\n".join(lines)


def examine(folder: Path | None = None) -> Report:
    """Look at this machine; takes a few seconds, most of them spent on importing torch.

    Args:
        folder: where results would be written; its disk is measured. None is the current folder.
    """
    memory_gib, free_memory_gib = _memory_gib()
    packages, missing = _packages()
    torch_finding, gpus = _torch()
    video, encoders = _video()
    disk_gib = shutil.disk_usage(folder or Path.cwd()).free / GIB
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = Machine(num_cores, memory_gib, free_memory_gib, disk_gib, gpus, missing, encoders)
    findings = (
        Finding("python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Finding("cores", str(num_cores)),
        Finding("memory", f"{memory_gib:.1f} GiB, {free_memory_gib:.1f} GiB free"),
        Finding(
            "disk", f"{disk_gib:.1f} GiB free", disk_gib > 1.0, "" if disk_gib > 1.0 else "free at least 1 GiB of disk"
        ),
        torch_finding,
        *packages,
        video,
        *_clock(),
    )
    return Report(findings, abilities_of(machine))


def abilities_of(machine: Machine) -> tuple[Ability, ...]:
    """Judge the usual wishes by the machine's numbers. Pure."""
    needed = {package for package, (_, use) in PACKAGES.items() if not use.startswith("make ")}
    lacking = [PACKAGES[module][0] for module in machine.missing if module in needed]
    lacking_tests = [PACKAGES[module][0] for module in machine.missing]
    demo = _lack(
        (not lacking, f"missing: {', '.join(lacking)}"),
        (bool(machine.encoders), "no video encoder"),
        (machine.free_memory_gib >= 1.5, f"needs 1.5 GiB of free memory, {machine.free_memory_gib:.1f} here"),
    )
    tests = _lack(
        (not lacking_tests, f"missing: {', '.join(lacking_tests)}"),
        (machine.free_memory_gib >= 2.0, f"needs 2 GiB of free memory, {machine.free_memory_gib:.1f} here"),
    )
    cores = "" if machine.num_cores > 1 else "; one core is tight for a control loop and an inference side by side"
    abilities = [
        Ability("demo (make demo)", not demo, demo or f"{machine.num_cores} cores, no GPU needed{cores}"),
        Ability("tests (make test)", not tests, tests or "CPU only"),
    ]
    for name, (num_parameters, memory_gib) in TRAINED_SIZES.items():
        lack = _lack(
            (not lacking, f"missing: {', '.join(lacking)}"),
            (
                machine.free_memory_gib >= memory_gib,
                f"needs {memory_gib:g} GiB free, {machine.free_memory_gib:.1f} here",
            ),
        )
        where = "GPU" if machine.gpus else "CPU"
        abilities.append(
            Ability(f"train {name}", not lack, lack or f"{num_parameters / 1e6:.1f} M parameters fit on the {where}")
        )
    abilities.append(_gpu_ability("train small", machine, 16.0, "150 M parameters"))
    xr0_gib = NUM_XR0_PARAMETERS * BYTES_PER_TRAINED_PARAMETER / GIB
    abilities.append(_gpu_ability("train xr0 on one GPU", machine, xr0_gib, "weights, gradients and Adam in float32"))
    abilities.append(_gpu_ability("serve xr0", machine, SERVE_XR0_GIB, "4.7 billion weights in bfloat16"))
    return tuple(abilities)


def _gpu_ability(name: str, machine: Machine, needed_gib: float, what: str) -> Ability:
    need = f"needs a GPU with {needed_gib:.1f} GiB ({what})"
    here = f"the largest here has {machine.gpu_gib:.1f} GiB" if machine.gpus else "no CUDA GPU here"
    return Ability(name, machine.gpu_gib >= needed_gib, f"{need}; {here}")


def _lack(*conditions: tuple[bool, str]) -> str:
    """The complaints of the conditions that do not hold, joined; empty if all do."""
    return "; ".join(complaint for holds, complaint in conditions if not holds)


def _memory_gib() -> tuple[float, float]:
    """Total and available memory, from /proc/meminfo where it exists."""
    table = Path("/proc/meminfo")
    if table.exists():
        kib = {
            key: float(rest.split()[0]) for key, rest in (row.split(":", 1) for row in table.read_text().splitlines())
        }
        return kib["MemTotal"] / 2**20, kib["MemAvailable"] / 2**20
    total_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return total_gib, total_gib


def _packages() -> tuple[list[Finding], tuple[str, ...]]:
    """One finding for what is there, one per package that is not."""
    present, findings, missing = [], [], []
    for module, (package, use) in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            missing.append(module)
            findings.append(Finding(package, f"missing ({use})", False, _install_line(package, use)))
        elif module != "torch":
            present.append(f"{package} {metadata.version(package)}")
    rows = [Finding("packages", ", ".join(present[i : i + 4])) for i in range(0, len(present), 4)]
    return [*rows, *findings], tuple(missing)


def _install_line(package: str, use: str) -> str:
    return (
        "pip install -c constraints.txt -e '.[dev]'"
        if use.startswith("make ")
        else f"pip install -c constraints.txt {package}"
    )


def _torch() -> tuple[Finding, tuple[tuple[str, float], ...]]:
    """Version and CUDA devices; a torch that is there but does not load is a finding too."""
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", "missing", False), ()
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Finding(
            "torch", f"does not load: {error}", False, "reinstall torch: pip install -c constraints.txt torch"
        ), ()
    if not torch.cuda.is_available():
        return Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads, no CUDA device"), ()
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    gpus = tuple((device.name, device.total_memory / GIB) for device in devices)
    named = ", ".join(f"{name} ({memory_gib:.0f} GiB)" for name, memory_gib in gpus)
    return Finding("torch", f"{torch.__version__}, CUDA {torch.version.cuda}: {named}"), gpus


def _video() -> tuple[Finding, tuple[str, ...]]:
    """Encode two small frames with each encoder; what writes bytes counts."""
    advice = "pip install -c constraints.txt av (its wheel brings the encoders)"
    if importlib.util.find_spec("av") is None:
        return Finding("video", "PyAV is missing", False, advice), ()
    import av

    working = []
    for encoder in ("libx264", "mpeg4"):
        if encoder not in av.codecs_available:
            continue
        target = io.BytesIO()
        with av.open(target, "w", format="mp4") as container:
            stream = container.add_stream(encoder, rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for level in (0, 255):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, dtype=np.uint8))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        if target.getvalue():
            working.append(encoder)
    return Finding(
        "video", f"writes mp4 with {', '.join(working) or 'nothing'}", bool(working), "" if working else advice
    ), tuple(working)


def _clock(num_ticks: int = 50, period_s: float = 0.01) -> list[Finding]:
    """Resolution of the monotonic clock, and how late this machine wakes up on an absolute schedule of 100 Hz."""
    resolution_s = time.get_clock_info("monotonic").resolution
    start_s = time.monotonic()
    late_ms = []
    for tick in range(1, num_ticks + 1):
        due_s = start_s + tick * period_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        late_ms.append(1e3 * (time.monotonic() - due_s))
    p50, p99 = np.percentile(late_ms, [50, 99])
    is_ok = bool(p99 < 10.0)
    advice = (
        ""
        if is_ok
        else "the machine wakes up late: close other programs before timing anything, or expect jitter in the demo"
    )
    value = f"late by {p50:.2f} ms (p50), {p99:.2f} (p99), {max(late_ms):.2f} (max) over {num_ticks} sleeps of 10 ms"
    return [
        Finding("clock", f"resolution {1e9 * resolution_s:.0f} ns"),
        Finding("wake-up", value, is_ok, advice),
    ]
