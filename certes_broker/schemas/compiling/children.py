"""Child processes that compile and link what strangers send, so that nothing they send can hold or end the broker.

Rules
-----
* A child has a folder of its own, which is removed whatever happens, an empty environment, no input, and no open file of
  the broker's. It leads a process group, and the whole group is killed when its time is up or its caller is cancelled.
* It limits itself before it reads anything: processor time, address space, the size of files, how many may be open, no core
  dump, and how long it lives if the broker dies. (By itself, because what runs between fork and exec is not safe beside
  threads.)
* What a broker that was killed has left of its children is removed when the first child is wanted.
* At most `AT_ONCE` children run and `WAITING` callers wait; who comes then is told to come again.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from certes_broker.domain.errors import Exhausted, Invalid, Reason, Unavailable
from certes_broker.schemas.compiling.child import NOT_COMPILED, NOT_LINKED
from certes_broker.schemas.compiling.child_process import ChildProcess
from certes_broker.schemas.compiling.limits import MAXIMUM_COMPILED_BYTES

TIME_LIMIT: Final = 5.0
"""Seconds from the start of a child to its death."""
AT_ONCE: Final = 2
WAITING: Final = 16
SHARED_SET: Final = "../shared.binpb"
GIVEN_SET: Final = "../given.binpb"
COMPILED_SET: Final = "../compiled.binpb"
"""The descriptor sets of a task, beside the folder of its files."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Task:
    """What a child does: the files it finds, by their paths in its folder, the compiler's arguments, and what it links.

    `linked` is the path of one of the descriptor sets above.
    """

    files: Mapping[str, bytes]
    arguments: Sequence[str]
    linked: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child has done.

    `compiled` is the content of `COMPILED_SET`, or None if the compiler did not write it because the files are at fault;
    `is_linked` whether the rest was well too. `messages` is what was said of the files, its first `MOST_MESSAGES` bytes.
    """

    compiled: bytes | None
    is_linked: bool
    messages: str


MOST_MESSAGES: Final = 256 * 1024


class Children:
    """Runs tasks in child processes, few at once.

    `time_limit` is in seconds. `python` is the interpreter that a child is, `place` the folder in which it gets its own: by
    default this process's interpreter, and the system's folder for what is temporary.
    """

    def __init__(
        self,
        *,
        time_limit: float = TIME_LIMIT,
        at_once: int = AT_ONCE,
        waiting: int = WAITING,
        python: str = sys.executable,
        place: Path | None = None,
    ) -> None:
        self._time_limit = time_limit
        self._python = python
        self._place = place
        self._places = asyncio.Semaphore(at_once)
        self._most_present = at_once + waiting
        self._present = 0
        self._is_tidy = False

    @property
    def present(self) -> int:
        """How many callers have a child or wait for one."""
        return self._present

    async def run(self, task: Task) -> Outcome:
        """Runs a task in a child process.

        Raises `Invalid` if the files end the compiler: SCHEMA_TOO_LARGE if that is because they take more time or memory
        than they may, else SCHEMA_MALFORMED. Raises `Exhausted` (BUFFER_FULL) if too many are waiting, and `Unavailable`
        (WORKER_UNAVAILABLE) if no child can be had.
        """
        if self._present >= self._most_present:
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"{self._present} registrations are with the schema compiler already.",
                metadata={"limit": "registrations at once", "maximum": str(self._most_present)},
                retry_after=1.0,
            )
        self._present += 1
        try:
            async with self._places:
                return await self._run(task)
        finally:
            self._present -= 1

    async def _run(self, task: Task) -> Outcome:
        if not self._is_tidy:
            self._is_tidy = True
            await _in_thread(lambda: _tidy(self._place or Path(tempfile.gettempdir())))
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._place))
        except OSError as error:
            raise _unavailable(f"it has no folder for its files ({error.strerror})") from error
        try:
            await _in_thread(lambda: _furnish(folder, task, int(self._time_limit) + 1))
            status = await self._status(folder)
            return await _in_thread(lambda: _outcome(folder, status, self._time_limit))
        except OSError as error:
            raise _unavailable(f"its files cannot be written or read ({error.strerror})") from error
        finally:
            await _in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))

    async def _status(self, folder: Path) -> int:
        """Runs the child in a furnished folder and returns how it ended."""
        command = (self._python, "-I", "-S", str(_PROGRAM), f"../{_ORDER}")
        child = ChildProcess(command, folder=folder / _FILES, errors=folder / _MESSAGES)
        try:
            async with asyncio.timeout(self._time_limit):
                return await _in_thread(child.run, child.end)
        except TimeoutError:
            return -signal.SIGALRM


_PREFIX: Final = "certes-schemas-"
_LEFT_AFTER: Final = 3600.0
"""Seconds. A child lives for a few, so a folder of that age is nobody's, also where brokers share a place."""
_PROGRAM: Final = Path(__file__).with_name("child.py")
_FILES: Final = "files"
_ORDER: Final = "order.json"
_MESSAGES: Final = "messages"
_MEMORY: Final = 512 << 20
_LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "RLIMIT_CPU": int(TIME_LIMIT) + 1,
        "RLIMIT_AS": _MEMORY,
        "RLIMIT_FSIZE": MAXIMUM_COMPILED_BYTES,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }
)
_OUT_OF_TIME: Final = frozenset({signal.SIGALRM, signal.SIGXCPU})
_OUT_OF_MEMORY: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGKILL})


async def _in_thread(function: Callable[[], _Result], end: Callable[[], None] = lambda: None) -> _Result:
    """Runs a function in a thread to its end, also if the caller is cancelled: then what it made is there to be removed.

    `end` makes it come to its end soon.
    """
    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        end()
        await asyncio.wait([future])
        raise


def _tidy(place: Path) -> None:
    """Removes the folders that brokers of this user have left in a place."""
    with suppress(OSError):
        for folder in place.glob(f"{_PREFIX}*"):
            found = folder.lstat()
            if found.st_uid == os.getuid() and found.st_mtime < time.time() - _LEFT_AFTER:
                shutil.rmtree(folder, ignore_errors=True)


def _furnish(folder: Path, task: Task, seconds: int) -> None:
    """Writes a task's files and its order to a folder that only its owner can read."""
    order = {
        "path": [entry for entry in sys.path if Path(entry).is_absolute()],
        "limits": dict(_LIMITS),
        "seconds": seconds,
        "arguments": list(task.arguments),
        "linked": task.linked,
    }
    (folder / _ORDER).write_text(json.dumps(order))
    (folder / _FILES).mkdir()
    for path, content in task.files.items():
        place = folder / _FILES / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _outcome(folder: Path, status: int, time_limit: float) -> Outcome:
    with (folder / _MESSAGES).open("rb") as file:
        messages = file.read(MOST_MESSAGES).decode(errors="replace")
    if status < 0:
        raise _ended(signal.Signals(-status), messages, time_limit)
    if status == NOT_COMPILED:
        if os.strerror(errno.EFBIG) in messages:
            raise _too_much("room for the descriptors", f"{MAXIMUM_COMPILED_BYTES >> 20} MiB")
        return Outcome(None, is_linked=False, messages=messages)
    if status in {0, NOT_LINKED}:
        return Outcome((folder / _FILES / COMPILED_SET).read_bytes(), is_linked=status == 0, messages=messages)
    raise _unavailable(f"it ended with status {status}: {messages.strip().rpartition(chr(10))[2][:200]}")


def _ended(by: signal.Signals, messages: str, time_limit: float) -> Invalid:
    """Builds the refusal of files that have ended the compiler, which knows no other way to say that it cannot go on."""
    if by in _OUT_OF_TIME:
        return _too_much("time", f"{time_limit:g} seconds")
    if by in _OUT_OF_MEMORY or "bad_alloc" in messages:
        return _too_much("memory", f"{_MEMORY >> 20} MiB")
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"the schemas have ended the compiler ({by.name}).",
        metadata={"signal": by.name},
        hint='Is a text in an option, such as "\\377", not UTF-8? Compile them with `protoc` or `buf build` to see more.',
    )


def _too_much(limit: str, maximum: str) -> Invalid:
    return Invalid(
        Reason.SCHEMA_TOO_LARGE,
        f"compiling the schemas takes more {limit} than a registration may use, which is {maximum}.",
        metadata={"limit": limit, "maximum": maximum},
        hint="Register fewer files at once, and smaller ones.",
    )


def _unavailable(problem: str) -> Unavailable:
    return Unavailable(Reason.WORKER_UNAVAILABLE, f"the schema compiler cannot work: {problem}.")
