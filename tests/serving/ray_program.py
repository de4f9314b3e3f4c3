"""A fleet on Ray Serve as a program: `cycle PORT` obeys lines on stdin, `run PORT` is what the command does."""

import sys
from dataclasses import replace
from functools import partial
from typing import Literal

from cerebella.serving import ray_serve
from cerebella.serving.ray_serve import ScaleOptions
from tests.serving.fleet_policy import ProcessPolicy

INFER_S = 0.02
TOKEN = "a-long-token"


def options(port: int, proxy: Literal["haproxy", "python"]) -> ScaleOptions:
    return ScaleOptions(
        partial(ProcessPolicy, 1, INFER_S),
        num_replicas=2,
        gpus_per_replica=0,
        cpus_per_replica=0.1,
        port=port,
        token=TOKEN,
        proxy=proxy,
        has_session_affinity=proxy == "python",
    )


def cycle(first: ScaleOptions) -> None:
    """Each line is the version of the next deployment."""
    with ray_serve.cluster(first):
        ray_serve.deploy(first)
        print("deployed 1", flush=True)
        for line in sys.stdin:
            ray_serve.deploy(replace(first, load_policy=partial(ProcessPolicy, int(line), INFER_S)))
            print(f"deployed {int(line)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "cycle":
        cycle(options(int(sys.argv[2]), "haproxy"))
    else:
        ray_serve.run(options(int(sys.argv[2]), "python"))
