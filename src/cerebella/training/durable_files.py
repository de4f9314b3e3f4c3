"""Files that are on the disk when a function returns, and a list that tells later whether they still are what they were."""

import json
import os
import zlib
from pathlib import Path

MANIFEST = "manifest.json"
"""In each checked folder: a JSON object whose `files` says size and CRC-32 of every other file."""
CHUNK_BYTES = 1 << 24


def flush(path: Path) -> None:
    """Wait until a file's bytes or a directory's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str) -> None:
    """Replace a file by another as a whole: whoever looks, also after a crash, finds the old text or the new one."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(text)
    flush(beside)
    os.replace(beside, path)
    flush(path.parent)


def fingerprints(folder: Path) -> dict[str, list[int]]:
    """Path below the folder -> [size in bytes, CRC-32], of every file."""
    return {str(path.relative_to(folder)): _fingerprint(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def fault_of(folder: Path) -> str:
    """What is wrong with a folder that has a manifest, in words; empty if nothing is. Reads every byte."""
    try:
        files = dict(json.loads((folder / MANIFEST).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} is unreadable ({error})"
    for name, (size, _) in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (found := (folder / name).stat().st_size) != size:
            return f"{name} has {found} bytes instead of {size}"
    return next((f"{name} is damaged" for name, wanted in files.items() if _fingerprint(folder / name) != wanted), "")


def _fingerprint(path: Path) -> list[int]:
    checksum, size = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    return [size, checksum]
