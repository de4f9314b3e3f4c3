"""Freed memory stays with the process, so that the next picture begins without page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from cerebella.serving.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
message = bytes(452_000)
def copy_often(times):
    for _ in range(times):
        bytes(bytearray(message))
copy_often(10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
copy_often(100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    """Page faults of two hundred buffers of 452 kB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has this setting")
def test_buffers_are_reused_without_page_faults() -> None:
    assert faults("keep") < 100 < faults("leave")
