"""What the machine has and what else it is doing: cores, memory, names, load, allocator, where caches go.

Asked of the operating system only; torch is not imported for it, save for the device's name.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

import platformdirs
import psutil
import torch

BUSY_PERCENT = 50.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def usable_cores() -> int:
    """Physical cores this process may run on: affinity, container quota and OMP_NUM_THREADS respected."""
    cores = len({_siblings(cpu) for cpu in _allowed_cpus()})
    if not hasattr(os, "sched_getaffinity"):
        cores = psutil.cpu_count(logical=False) or cores
    limits = [cores, _quota_cores()]
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        limits.append(int(asked))
    return max(1, min(limits))


def busy_cores(interval_seconds: float = 0.2) -> int:
    """How many of the cores we may use are already more than half busy, seen over a short interval."""
    allowed = _allowed_cpus()
    loads = psutil.cpu_percent(interval=interval_seconds, percpu=True)
    return sum(load > BUSY_PERCENT for cpu, load in enumerate(loads) if cpu in allowed)


def busy_notes() -> list[str]:
    """One line when another process keeps our cores busy; none when the machine is quiet."""
    busy, cores = busy_cores(), usable_cores()
    if busy == 0:
        return []
    advice = f"end it, or give --threads {cores - busy}" if busy < cores else "end it, or wait"
    found = f"{busy} of {cores} cores are busy with something else: training can be many times slower"
    return [f"{found}; {advice}."]


def cpu_name() -> str:
    """The processor's name as a person knows it."""
    if platform.system() == "Linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return cpu_name()


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or the container's limit."""
    total = int(psutil.virtual_memory().total)
    limit = _cgroup("memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def free_memory_bytes() -> int:
    """Memory this process can still get: the machine's, what is left of the container's limit, or of `ulimit -v`."""
    free = [int(psutil.virtual_memory().available)]
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used) + _reclaimable_bytes())
    if sys.platform != "win32":
        import resource

        space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if space != resource.RLIM_INFINITY:
            free.append(space - int(psutil.Process().memory_info().vms))
    return max(0, min(free))


def _reclaimable_bytes() -> int:
    """Of a container's memory, files that were read: they make room when it is needed."""
    counts = dict(line.split() for line in _cgroup("memory.stat").splitlines())
    return int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))


def resident_bytes() -> int:
    """Memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


def cache_dir() -> Path:
    """Where decoded footage is kept between runs: REROLL_CACHE, or the platform's own place for caches."""
    place = Path(os.environ.get("REROLL_CACHE") or platformdirs.user_cache_path("reroll", appauthor=False))
    return place.absolute()  # a run keeps where its footage lies, and may be asked from another folder


def config_dir() -> Path:
    """Where what is the user's own is kept: REROLL_CONFIG, or the platform's own place for settings."""
    place = Path(os.environ.get("REROLL_CONFIG") or platformdirs.user_config_path("reroll", appauthor=False))
    return place.absolute()


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed tensors instead of giving them back to the kernel and paying page faults again.

    Worth 1.1 to 1.9 times in training speed. True if it was set; elsewhere (musl, macOS, Windows) there is
    nothing to set, which is no fault.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1  # mallopt takes an int
    thresholds = (1 << 30, 1 << 25)  # glibc before 2.35 takes no more than half a heap, 32 MiB
    kept = any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in thresholds)
    return bool(mallopt(_M_TRIM_THRESHOLD, largest)) and kept


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    """Logical CPUs of one physical core share this text; a machine that does not tell has one core each."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota_cores() -> int:
    """Whole cores that the container's CPU quota allows; many where there is no quota."""
    quota, _, period = _cgroup("cpu.max").partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return 1 << 16
    return max(1, int(quota) // int(period))


def _cgroup(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""
