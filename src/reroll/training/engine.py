"""The one place that knows device, precision, threads and allocator. Everything else takes an `Engine`.

In come uint8 frames `B T H W C`, numpy arrays and modules; out go tensors and modules on the device.
lightning-fabric supplies the device and the autocast context.

- **Precision.** Weights are always fp32. `bf16` is autocast; on a CPU it is 2 to 4 times faster where the
  units exist (AMX, AVX512-BF16) and slower elsewhere, so that `auto` measures it once, in under a second.
- **Threads.** One per physical core this process may use. A second busy process makes a two-thread step up
  to 50 times slower, so that what else runs is looked at and said.
- **Same seed, same bits.** Deterministic kernels; noise is drawn on the CPU whatever the device, so that
  seeds agree across devices. Bits differ between thread counts, hence `describe()` goes into the run.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from reroll.errors import UsageError
from reroll.training import machine

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]
Module = TypeVar("Module", bound=nn.Module)

BF16_PAYS = 1.15
"""bf16 has to be this much faster than fp32 to be chosen: less is within the noise of the measurement."""


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that there was no memory: Python's own, an accelerator's, or that of torch's CPU allocator, which
    is a plain RuntimeError."""
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("allocate memory" in words or "out of memory" in words)
    )


@dataclass(frozen=True)
class Engine:
    """A started device. Make one with `Engine.start`, one per process."""

    fabric: Fabric
    device: torch.device
    precision: Precision
    threads: int
    deterministic: Literal["strict", "best effort"]
    bf16_ratio: float | None
    """How many times faster bf16 was than fp32, if it was measured."""
    notes: list[str] = field(default_factory=list)
    """Lines for the user: what is wrong with this machine at the moment and what to do about it."""

    @classmethod
    def start(
        cls, device: str = "auto", precision: str = "auto", threads: int | None = None, seed: int = 0
    ) -> "Engine":
        """Set up the process: allocator, threads, determinism, seed, device, precision (in that order)."""
        if threads is not None and threads < 1:
            raise UsageError(f"--threads {threads}: give at least 1.")
        chosen = _choose_device(device)
        if precision not in ("auto", *get_args(Precision)):
            raise UsageError(f"--precision {precision}: choose auto, fp32 or bf16.")
        notes = [] if chosen != "cpu" else machine.busy_notes()
        machine.keep_freed_memory()
        count = threads or machine.usable_cores()
        _set_threads(count, notes)
        deterministic = _set_determinism(chosen)
        ratio = None
        if precision == "auto":
            ratio = measure_bf16(torch.device(chosen))
            precision = "bf16" if ratio is not None and ratio > BF16_PAYS else "fp32"
        fabric = _fabric(chosen, cast(Precision, precision))
        fabric.seed_everything(seed % 2**32, workers=False, verbose=False)  # NumPy takes no more
        return cls(fabric, fabric.device, cast(Precision, precision), count, deterministic, ratio, notes)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What matrices are multiplied in where the run's precision suffices."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def describe(self) -> dict[str, Any]:
        """What the bits of a run depend on, and what explains its speed; stored in the run."""
        return {
            "torch": torch.__version__,
            "device": self.device.type,
            "device_name": machine.device_name(self.device),
            "precision": self.precision,
            "bf16_ratio": None if self.bf16_ratio is None else round(self.bf16_ratio, 2),
            "threads": self.threads,
            "interop_threads": torch.get_num_interop_threads(),
            "deterministic": self.deterministic,
            "cpu": machine.cpu_name(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "memory_bytes": machine.memory_bytes(),
        }

    def setup(self, module: Module) -> Module:
        """Move to the device; 2-D convolution weights go channels-last, which is where they are fast."""
        self.fabric.to_device(module)
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return module

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass. Losses that need full precision are computed outside of it."""
        return self.fabric.autocast()

    def full_precision(self) -> AbstractContextManager[Any]:
        """No autocast inside of it: for finite differences, which bf16 rounding would swamp."""
        return torch.autocast(self.device.type, enabled=False)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array on the device; read-only arrays (memory maps) are copied."""
        source = np.ascontiguousarray(array)
        return torch.from_numpy(source if source.flags.writeable else source.copy()).to(self.device)

    def frames(self, frames: np.ndarray) -> Tensor:
        """uint8 `B T H W C` (or `T H W C`) → float `B T C H W` (or `T C H W`) in [-1, 1] on the device."""
        if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-1] != 3:
            raise ValueError(f"uint8 frames [B] T H W 3 wanted, not {frames.dtype} {frames.shape}")
        return self.tensor(frames).movedim(-1, -3).contiguous().float().div_(127.5).sub_(1.0)

    def pixels(self, frames: Tensor) -> np.ndarray:
        """The inverse of `frames`: float `... C H W`, cut to [-1, 1] → uint8 `... H W C`."""
        scaled = ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return scaled.movedim(-3, -1).contiguous().cpu().numpy()

    def available_memory_bytes(self) -> int:
        """Memory of the device that this process can have: what is free, and what it holds already."""
        match self.device.type:
            case "cuda":
                return int(torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device))
            case "mps":
                return int(torch.mps.recommended_max_memory())
            case _:
                return machine.free_memory_bytes() + machine.resident_bytes()

    def generator(self, seed: int) -> torch.Generator:
        """A random generator on the CPU, always: draw there, then move, and seeds agree across devices."""
        return torch.Generator("cpu").manual_seed(seed)

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Standard normal noise, drawn on the CPU, on the device."""
        return torch.randn(*shape, generator=generator).to(self.device)

    def synchronize(self) -> None:
        """Wait for the device: only timings need it."""
        _synchronize(self.device)


def measure_bf16(device: torch.device) -> float | None:
    """How many times faster a convolution and a matrix product, forward and backward, are in bf16.

    None where bf16 does not run at all. The least of a few readings each, alternating, so that another
    process that wakes up in between does not decide; takes well under a second.
    """
    try:
        steps = {enabled: _probe_step(device, enabled) for enabled in (False, True)}
        for step in steps.values():
            step()
    except (RuntimeError, TypeError):
        return None
    best = {False: float("inf"), True: float("inf")}
    deadline = time.perf_counter() + 0.6
    while time.perf_counter() < deadline:
        for enabled, step in steps.items():
            began = time.perf_counter()
            step()
            best[enabled] = min(best[enabled], time.perf_counter() - began)
    return best[False] / best[True]


def _probe_step(device: torch.device, bf16: bool) -> Callable[[], None]:
    """A small step shaped like training: 16 frames of 32×32 with 64 channels, 512 tokens of width 256."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(16, 64, 32, 32, generator=generator).to(device, memory_format=torch.channels_last)
    kernel = (torch.randn(64, 64, 3, 3, generator=generator) / 24).to(
        device, memory_format=torch.channels_last
    )
    tokens = torch.randn(512, 256, generator=generator).to(device)
    matrix = (torch.randn(256, 1024, generator=generator) / 16).to(device)
    kernel.requires_grad_(True)
    matrix.requires_grad_(True)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = nn.functional.conv2d(image, kernel, padding=1).float().mean()
            loss = loss + (tokens @ matrix).float().square().mean()
        torch.autograd.grad(loss, (kernel, matrix))
        _synchronize(device)

    return step


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _choose_device(device: str) -> Device:
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return cast(Device, next(name for name, there in present.items() if there))
    if device not in present:
        raise UsageError(f"--device {device}: choose auto, cpu, cuda or mps.")
    if not present[device]:
        raise UsageError(f"--device {device}: this torch ({torch.__version__}) sees none; use --device cpu.")
    return cast(Device, device)


def _set_threads(count: int, notes: list[str]) -> None:
    torch.set_num_threads(count)
    if torch.get_num_interop_threads() == 1:
        return
    try:
        torch.set_num_interop_threads(1)
    except RuntimeError:  # torch has worked in this process already (a notebook): too late to change it
        notes.append("torch was in use before: its inter-op threads stay as they were, steps may be slower.")


def _set_determinism(device: Device) -> Literal["strict", "best effort"]:
    """Strict on a CPU, where all we use has a deterministic kernel; elsewhere a missing one only warns."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (not in its stubs)
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    return "strict" if device == "cpu" else "best effort"


def _fabric(device: Device, precision: Precision) -> Fabric:
    """Fabric on one device, started as one process whatever cluster variables the shell has set."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        plugins=[LightningEnvironment()],
    )
