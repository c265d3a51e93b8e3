"""The time of day of a running program that no library can be preloaded into, such as a NATS server, which is linked statically.

Programs ask for the time in a page of code that the kernel gives to each of them (vdso(7)). Here the function in it that tells the time
is written over in one process, by one that asks the kernel and adds so many seconds where the time of day is asked for. Clocks that cannot
be set are left alone, as they are where a system's clock is set.
"""

from __future__ import annotations

import os
import platform
import signal
import struct
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest

SYMBOL: Final = b"__vdso_clock_gettime"
DYNAMIC_SYMBOLS: Final = 11
SECONDS_AT: Final = 32
"""Where in the function the seconds stand that it adds."""
CODE: Final = bytes.fromhex(
    "b8 e4 00 00 00"  # mov eax, 228: clock_gettime
    "0f 05"  # syscall
    "85 ff"  # test edi, edi: 0 is the time of day
    "75 0a"  # jnz to the end
    "48 8b 0d 0e 00 00 00"  # mov rcx, the seconds
    "48 01 0e"  # add [rsi], rcx
    "c3"  # ret
).ljust(SECONDS_AT, b"\xcc") + bytes(8)


class _Function(NamedTuple):
    address: int
    size: int


class ProcessClock:
    """By how much the time of day of a process differs from the real one."""

    def __init__(self, pid: int) -> None:
        if platform.machine() != "x86_64":
            pytest.skip("the time of day of a NATS server can be set on x86-64 only")
        self._pid = pid
        self._at = self._function()
        if self._at.size < len(CODE):
            pytest.skip("this kernel tells the time in a way that cannot be written over")
        self._stopped(lambda: self._write(self._at.address, CODE))

    def set(self, offset: timedelta) -> None:
        """Lets the time of day jump there in one step."""
        self._write(self._at.address + SECONDS_AT, struct.pack("<q", round(offset.total_seconds())))

    def _stopped(self, action: Callable[[], None]) -> None:
        """Does something while the process stands still, and outside of the function."""
        while True:
            os.kill(self._pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self._pid, os.WSTOPPED)
            try:
                if not self._is_in_function():
                    action()
                    return
            finally:
                os.kill(self._pid, signal.SIGCONT)

    def _is_in_function(self) -> bool:
        within = range(self._at.address, self._at.address + self._at.size)
        tasks = Path(f"/proc/{self._pid}/task").iterdir()
        # The last of its words is where a thread is that stands still.
        return any(int((task / "syscall").read_text().split()[-1], 16) in within for task in tasks)

    def _write(self, address: int, data: bytes) -> None:
        with Path(f"/proc/{self._pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(data)

    def _function(self) -> _Function:
        """Finds the function that tells the time."""
        [line] = [one for one in Path(f"/proc/{self._pid}/maps").read_text().splitlines() if one.endswith("[vdso]")]
        first, last = (int(one, 16) for one in line.split()[0].split("-"))
        with Path(f"/proc/{self._pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(first)
            image = memory.read(last - first)
        [(value, size)] = [(value, size) for name, value, size in _symbols(image) if name == SYMBOL]
        return _Function(first + value, size)


def _symbols(image: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, address and size of an ELF image's dynamic symbols (elf(5))."""
    (sections,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections + number * size) for number in range(count)]
    for _, kind, _, _, offset, length, link, *_ in headers:
        if kind == DYNAMIC_SYMBOLS:
            names = headers[link][4]
            for at in range(offset, offset + length, 24):
                name, _, _, _, value, extent = struct.unpack_from("<IBBHQQ", image, at)
                yield image[names + name : image.index(0, names + name)], value, extent
