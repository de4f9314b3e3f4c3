"""Watch a small VLA drive a simulated robot in real time: live at 30 Hz, then a video, a report and a result file.

python examples/01_real_time_demo.py --out outputs/demo
"""

import tyro

from cerebella.recipes.demo import DemoConfig, run_demo

if __name__ == "__main__":
    run_demo(tyro.cli(DemoConfig))
