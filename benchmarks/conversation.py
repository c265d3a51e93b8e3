"""How the benchmark talks with the processes it starts: one JSON document a line, commands in, answers out.

A program of the benchmark (`publisher`, `consumer`, `ingress_load`, those in `sdk`) is told what it is by its first argument, a JSON
document, does what its standard input says, and answers on its standard output. Times are nanoseconds of the machine's
monotonic clock, which all its processes share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvloop

from benchmarks.machine import cpu_seconds

ROOT: Final = Path(__file__).resolve().parent.parent
ANSWER_TIMEOUT: Final = 120.0


class ProgramFailed(Exception):
    """A program of the benchmark ended, or did not answer in time."""


class Program:
    """One program of the benchmark, as a child process that does not outlive the block."""

    def __init__(self, command: Sequence[str], settings: Mapping[str, object]) -> None:
        self._command = command
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def of_module(cls, module: str, settings: Mapping[str, object]) -> Self:
        """Makes one of a module of this package."""
        return cls((sys.executable, "-m", module), settings)

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        assert self._process is not None
        return cpu_seconds(self._process.pid)

    def tell(self, **command: object) -> None:
        """Sends it a command."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def answer(self, timeout: float = ANSWER_TIMEOUT) -> Mapping[str, Any]:  # noqa: ASYNC109 - the bound of every wait
        """Waits for its next answer. Raises `ProgramFailed`."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise ProgramFailed(f"{self._name} has not answered for {timeout:g} s.") from None
        if not line:
            raise ProgramFailed(f"{self._name} ended with exit code {await self._process.wait()}; it says why above.")
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    async def ask(self, **command: object) -> Mapping[str, Any]:
        """Sends a command and waits for its answer."""
        self.tell(**command)
        return await self.answer()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            json.dumps(self._settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            limit=1 << 26,
        )
        try:
            await self.answer()  # that it is ready
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def _name(self) -> str:
        return Path(self._command[-1]).name

    async def _end(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


Commands = AsyncIterator[dict[str, Any]]


def converse(program: Callable[[dict[str, Any], Commands], Awaitable[None]]) -> None:
    """Runs the other end: a program that gets its settings and its commands, and ends when there are no more."""

    async def run() -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await program(json.loads(sys.argv[1]), _commands(reader))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def say(**answer: object) -> None:
    """Answers."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _commands(reader: asyncio.StreamReader) -> Commands:
    async for line in reader:
        yield json.loads(line)
