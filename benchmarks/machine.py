"""The machine: what it is, what its disk takes, and what a process has used of it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SYNCS: Final = 200
_BLOCK: Final = bytes(4096)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were measured on. Sync times are milliseconds for 4 KiB appended to a file."""

    processor: str
    cores: int
    kernel: str
    python: str
    filesystem: str
    sync_median: float
    sync_p99: float

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, Linux {self.kernel}, Python {self.python}; data on {self.filesystem},"
            f" 4 KiB write and fdatasync {self.sync_median:.2f} ms (p99 {self.sync_p99:.2f} ms)"
        )


def look_at_machine(directory: Path) -> Machine:
    """Looks at the machine, and measures the disk that holds a directory."""
    times = sorted(_sync_times(directory / "sync"))
    return Machine(
        _processor(),
        len(os.sched_getaffinity(0)),
        platform.release(),
        platform.python_version(),
        _filesystem(directory),
        statistics.median(times) * 1000,
        times[int(len(times) * 0.99)] * 1000,
    )


def cpu_seconds(pid: int) -> float:
    """Returns the seconds of CPU that a process has used with all its threads, in user code and in the kernel."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """Returns the seconds of CPU that everything on the machine has used since it was started."""
    total = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, stolen = map(int, total[:8])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / _TICKS


def sync_seconds(handle: int) -> float:
    """Appends 4 KiB to an open file and returns the seconds until they were on the disk."""
    began = time.perf_counter()
    os.write(handle, _BLOCK)
    os.fdatasync(handle)
    return time.perf_counter() - began


def _sync_times(file: Path) -> list[float]:
    handle = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        return [sync_seconds(handle) for _ in range(_SYNCS)]
    finally:
        os.close(handle)
        file.unlink()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(directory: Path) -> str:
    """Returns the type of the file system with the longest mount point above a directory."""
    path, best, kind = str(directory.resolve()), "", "an unknown file system"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, of = line.split()[:3]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, of
    return kind
