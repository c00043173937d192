"""What the processor can do at most: GFLOP/s of a large matrix product and of a large convolution.

Both, because torch takes them to different libraries: in fp32 MKL multiplies matrices on an AMD processor at less than
half the rate of oneDNN's convolutions. The peak a training is held against is the best reading of either.
"""

import time
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.speed.bench import Bench
from benchmarks.speed.tables import Table, interleaved
from reroll.training.machine import cpu_name, usable_cores

Kind = tuple[str, str, int]
"""What is computed ("product", "convolution"), in which precision, on how many threads."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHANNELS, SIDE = 512, 64
READINGS = 3


def matrix_product(size: int, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A product of two square matrices, and its FLOPs."""
    a, b, out = (torch.randn(size, size).to(dtype) for _ in range(3))
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def convolution(channels: int, side: int, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A 3 × 3 convolution of one channels-last picture, and its FLOPs; its borders count, as in torch's counter."""
    image = torch.randn(1, channels, side, side).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
    return lambda: F.conv2d(image, kernel, padding=1), 2.0 * 9 * channels**2 * side**2


def rate(work: Callable[[], object], flops: float, threads: int) -> float:
    """GFLOP/s, the best of a few readings."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        work()
        seconds = []
        for _ in range(READINGS):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return flops / min(seconds) / 1e9


@cache
def measure(threads: tuple[int, ...], sizes: tuple[int, ...], rounds: int) -> dict[Kind, list[float]]:
    """GFLOP/s of each round; of the products the size that is fastest. Measured once a process."""

    def best_product(dtype: torch.dtype, count: int) -> float:
        return max(rate(*matrix_product(size, dtype), count) for size in sizes)

    def of(kind: Kind) -> Callable[[], float]:
        what, precision, count = kind
        if what == "product":
            return lambda: best_product(DTYPES[precision], count)
        return lambda: rate(*convolution(CHANNELS, SIDE, DTYPES[precision]), count)

    kinds: list[Kind] = [(what, p, n) for n in threads for p in DTYPES for what in ("product", "convolution")]
    return interleaved({kind: of(kind) for kind in kinds}, rounds)


def peak(found: dict[Kind, list[float]], precision: str, threads: int) -> float:
    """The best reading of either kind, GFLOP/s."""
    return max(max(rates) for (_, p, n), rates in found.items() if (p, n) == (precision, threads))


def rates(bench: Bench) -> dict[Kind, list[float]]:
    """On one thread and on all that are used."""
    threads = tuple(sorted({1, bench.engine.threads, usable_cores()}))
    return measure(threads, tuple(bench.products), bench.rounds)


def tables(bench: Bench) -> list[Table]:
    """One row for each precision and number of threads."""
    found = rates(bench)
    rows: list[dict[str, Any]] = []
    for threads in sorted({n for _, _, n in found}):
        for precision in DTYPES:
            product, conv = (found[what, precision, threads] for what in ("product", "convolution"))
            rows.append(
                {
                    "threads": threads, "precision": precision, "torch.mm GFLOP/s": median(product),
                    "convolution GFLOP/s": median(conv), "peak GFLOP/s": peak(found, precision, threads),
                    "product rounds": product, "convolution rounds": conv,
                }
            )  # fmt: skip
    return [Table("Machine", rows, f"{cpu_name()}; the peak is the best reading of either kind.")]
