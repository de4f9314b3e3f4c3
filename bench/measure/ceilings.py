"""What this machine can do, measured in the same run: the FLOP/s of a large matrix product and the bytes/s of a copy."""

import time
from collections.abc import Callable

import torch

from .roofline import Ceilings

NUM_REPEATS = 15


def measure_ceilings(dtype: torch.dtype, device: torch.device | str = "cpu") -> Ceilings:
    """Fastest of fifteen repeats each, random operands (zeros run faster than real numbers).

    On a CPU with the threads that torch has, by CPU time if that is one thread: what the time of a model is compared with.
    A copy counts its bytes twice, once read and once written. float8 needs a GPU; its product is the one that the engine's
    quantised layers use.
    """
    device = torch.device(device)
    side, num_bytes = (8192, 2**30) if device.type == "cuda" else (1024, 2**28)
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    is_float8 = dtype == torch.float8_e4m3fn
    source = torch.randn(num_bytes // 4, generator=generator, device=device)
    target = torch.empty_like(source)
    product = torch.empty_like(left)
    scale = torch.ones(side, 1, device=device)

    def multiply() -> None:
        if is_float8:
            torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
                left, right.T, scale, scale.T, out_dtype=torch.bfloat16, use_fast_accum=True
            )
        else:
            torch.matmul(left, right, out=product)

    product_s = _fastest_s(multiply, device)
    copy_s = _fastest_s(lambda: target.copy_(source), device)
    return Ceilings(2 * side**3 / product_s, 2 * num_bytes / copy_s)


def _fastest_s(run: Callable[[], object], device: torch.device) -> float:
    uses_cpu_time = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if uses_cpu_time else time.perf_counter
    run()
    seconds = []
    for _ in range(NUM_REPEATS):
        _wait(device)
        start = clock()
        run()
        _wait(device)
        seconds.append(clock() - start)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
