"""A program that uses an SDK, as a process of its own: what it prints is read while it runs, and can be waited for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.broker_process import look_for_secrets


@dataclass
class Program:
    """A running program and the lines that it has printed so far, to standard output and to standard error."""

    process: asyncio.subprocess.Process
    changed: asyncio.Condition
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _documents: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _read: int = 0

    def told(self, what: str) -> list[dict[str, Any]]:
        """Returns the lines that are JSON documents with a member of this name. Each line is read once."""
        for line in self.lines[self._read :]:
            document = json.loads(line)
            for member in document:
                self._documents.setdefault(member, []).append(document)
        self._read = len(self.lines)
        return self._documents.get(what, [])

    async def until(self, holds: Callable[[Program], bool], timeout: float = 60) -> None:
        """Waits until something is true of what it has printed.

        Raises `AssertionError`, with the end of what it has printed, if it ends before that, or is too slow.
        """
        try:
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(lambda: holds(self) or self._has_ended)
        except TimeoutError:
            raise AssertionError(f"The program has not come so far.\n{self.printed}") from None
        assert holds(self), f"The program has ended with {self.process.returncode}.\n{self.printed}"

    async def ended(self, timeout: float = 60) -> int:
        """Waits until it has ended by itself, and returns its exit code."""
        await self.until(lambda program: program._has_ended, timeout)
        return await self.process.wait()

    async def terminate(self, timeout: float = 60) -> int:
        """Asks it to end, as an orchestrator does, waits until it has, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(timeout)

    @property
    def printed(self) -> str:
        """The end of what it has printed, for the message of a test that failed."""
        return "\n".join([*self.lines[-40:], "--- standard error:", *self.errors[-40:]])

    @property
    def _has_ended(self) -> bool:
        return self._open_ends == 0

    _open_ends: int = 2

    async def read(self, end: asyncio.StreamReader, into: list[str]) -> None:
        """Reads one of its ends until it is closed."""
        async for line in end:
            async with self.changed:
                into.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        async with self.changed:
            self._open_ends -= 1
            self.changed.notify_all()


@asynccontextmanager
async def running(
    command: Sequence[str | Path],
    environ: Mapping[str, str],
    cwd: Path | None = None,
    changed: asyncio.Condition | None = None,
) -> AsyncIterator[Program]:
    """Runs a program, which does not outlive the block.

    Variables of the surroundings that begin with `CERTES_` are kept from it; `environ` is what it gets beside the rest.
    Programs that share `changed` can be waited for together.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**inherited, **environ},
        cwd=cwd,
        limit=1 << 24,  # `%#v` of an event is one long line
    )
    program = Program(process, changed or asyncio.Condition())
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as readers:
        readers.create_task(program.read(process.stdout, program.lines))
        readers.create_task(program.read(process.stderr, program.errors))
        try:
            yield program
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            look_for_secrets("\n".join([*program.lines, *program.errors]), "what a program prints")
