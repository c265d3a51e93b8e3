"""Child processes that compile and link what strangers send, so that nothing they send can hold or end the broker.

Rules
-----
* A child has a folder of its own, which is removed whatever happens, an empty environment, no input, and no open file of
  the broker's. It is the leader of a process group, and the whole group is killed when its time is up or when its caller
  is cancelled.
* It limits itself before it reads anything: processor time, address space, the size of files, how many may be open, and
  no core dump. (By itself, because what `subprocess` runs between fork and exec is not safe beside threads.)
* At most `AT_ONCE` children run and `WAITING` callers wait; who comes then is told to come again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from certes_broker.domain.errors import Exhausted, Invalid, Reason, Unavailable
from certes_broker.schemas.compiling.limits import MAXIMUM_COMPILED_BYTES

TIME_LIMIT: Final = 5.0
"""Seconds from the start of a child to its death."""
AT_ONCE: Final = 2
WAITING: Final = 16
FOLDER: Final = "files"
"""The folder, within a child's own, that it is started in."""
SHARED_SET: Final = "shared.binpb"
GIVEN_SET: Final = "given.binpb"
COMPILED_SET: Final = "compiled.binpb"
"""The descriptor sets beside that folder."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a child does: the files it finds, by their paths in its folder, the compiler's arguments, and what it links.

    A path of `files` may lead out of `FOLDER`, to `../shared.binpb`. `linked` is the path of a descriptor set.
    """

    files: Mapping[str, bytes]
    arguments: Sequence[str]
    linked: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child has done: `compiled` is the content of `COMPILED_SET`, or None if the files are at fault.

    `messages` is what the compiler said, its first `_MOST_MESSAGES` bytes.
    """

    compiled: bytes | None
    messages: str


class Children:
    """Runs tasks in child processes, few at once."""

    def __init__(self, *, time_limit: float = TIME_LIMIT, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._time_limit = time_limit
        self._places = asyncio.Semaphore(at_once)
        self._waiting = waiting
        self._present = 0
        self._most_present = at_once + waiting

    async def run(self, task: Task) -> Outcome:
        """Runs a task in a child process.

        Raises `Invalid` (SCHEMA_TOO_LARGE) if it takes more time or memory than it may, `Exhausted` (BUFFER_FULL) if too
        many are waiting, and `Unavailable` (WORKER_UNAVAILABLE) if no child can be had.
        """
        if self._present >= self._most_present:
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"{self._waiting} registrations are waiting for the schema compiler already.",
                metadata={"limit": "waiting registrations", "maximum": str(self._waiting)},
                retry_after=1.0,
            )
        self._present += 1
        try:
            async with self._places:
                return await self._run(task)
        finally:
            self._present -= 1

    async def _run(self, task: Task) -> Outcome:
        try:
            folder = await asyncio.to_thread(_furnish, task)
        except OSError as error:
            raise _unavailable(f"its files cannot be written: {error.strerror}") from error
        try:
            status = await self._status_of(folder, task)
            return await asyncio.to_thread(_outcome, folder, status)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def _status_of(self, folder: Path, task: Task) -> int:
        with (folder / _MESSAGES).open("wb") as messages:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", str(_PROGRAM), f"../{_ORDER}"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=messages,
                    cwd=folder / FOLDER,
                    env={},
                    start_new_session=True,
                )
            except OSError as error:
                raise _unavailable(f"it cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._time_limit):
                return await process.wait()
        except TimeoutError:
            raise _too_much("time", f"{self._time_limit:g} seconds") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())


_PROGRAM: Final = Path(__file__).with_name("child.py")
_ORDER: Final = "order.json"
_MESSAGES: Final = "messages"
_MOST_MESSAGES: Final = 256 * 1024
_MEMORY: Final = 512 << 20
_LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "RLIMIT_CPU": 6,
        "RLIMIT_AS": _MEMORY,
        "RLIMIT_FSIZE": MAXIMUM_COMPILED_BYTES,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }
)


def _furnish(task: Task) -> Path:
    """Makes a folder that only its owner can read, with the task's files and its order in it, and returns its path."""
    order = {
        "path": [entry for entry in sys.path if Path(entry).is_absolute()],
        "limits": dict(_LIMITS),
        "arguments": list(task.arguments),
        "linked": task.linked,
    }
    folder = Path(tempfile.mkdtemp(prefix="certes-schemas-"))
    try:
        inner = folder / FOLDER
        inner.mkdir()
        (folder / _ORDER).write_text(json.dumps(order))
        for path, content in task.files.items():
            place = inner / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _outcome(folder: Path, status: int) -> Outcome:
    with (folder / _MESSAGES).open("rb") as file:
        messages = file.read(_MOST_MESSAGES).decode(errors="replace")
    if status < 0:
        # The compiler has no other way to say that memory or its stack is used up than to die.
        raise _too_much("memory", f"{_MEMORY >> 20} MiB", signal.Signals(-status).name)
    if status == 0:
        return Outcome((folder / COMPILED_SET).read_bytes(), messages)
    if status == 1 and "Traceback" not in messages:
        return Outcome(None, messages)
    raise _unavailable(f"it ended with status {status}")


def _too_much(limit: str, maximum: str, how: str = "") -> Invalid:
    ended = f", and ended it with {how}" if how else ""
    return Invalid(
        Reason.SCHEMA_TOO_LARGE,
        f"compiling the schemas takes more {limit} than a registration may use, which is {maximum}{ended}.",
        metadata={"limit": limit, "maximum": maximum},
        hint="Register fewer files at once, and smaller ones.",
    )


def _unavailable(problem: str) -> Unavailable:
    return Unavailable(
        Reason.WORKER_UNAVAILABLE, f"the schema compiler cannot work: {problem}.", hint="See the broker's log."
    )
