"""Watch a small VLA drive a simulated robot in real time: live at 30 Hz, then a video, a report and a result file.

python examples/01_real_time_demo.py --out outputs/demo
"""

import sys

import tyro

from cerebella.cli import explain_errors
from cerebella.recipes.demo import DemoConfig, run_demo


def main(config: DemoConfig) -> int:
    """Run it; the exit code."""
    run_demo(config)
    return 0


if __name__ == "__main__":
    chosen = tyro.cli(DemoConfig)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
