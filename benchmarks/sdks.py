"""The SDKs: one-event calls, pipelined, from `publish` to handled and acknowledged, in one program of each language.

The programs in `benchmarks/sdk` do alike. They are made before the first round; where a language has no toolchain here, its
scenarios are skipped, and say why.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from benchmarks.conversation import ROOT, Program
from benchmarks.measures import Measure, Round
from benchmarks.stage import Meter, Stage

PROGRAMS: Final = ROOT / "benchmarks" / "sdk"
WINDOWS: Final = {256: 35_000, 1024: 45_000}
"""The calls that are not answered at any time, and how many events a second are aimed at."""
LANGUAGES: Final = ("Python", "Go", "JavaScript")
EVENTS_A_SECOND: Final = 20_000
"""A round has as many events as take about its time."""


class ToolchainMissing(Exception):
    """A program cannot be made here. The message says why."""


def scenario_of(language: str, window: int) -> Callable[[Stage], Awaitable[Round]]:
    """Returns a scenario: a round with the program of a language and so many calls under way."""

    async def run(stage: Stage) -> Round:
        events = int(stage.seconds * EVENTS_A_SECOND)
        settings = {
            "gateway": f"events://{stage.broker.http}",
            "app": "bench",
            "window": window,
            "events": events,
            "payload_bytes": 1024,
        }
        async with Program(_command(language), settings) as program:
            meter = Meter(stage.broker)
            done = await program.ask()
            use = meter.read(events).beside(language, done["cpu_seconds"], done["seconds"], events)
        if done["handled"] - done["redelivered"] != events:
            raise RuntimeError(f"The round is void: of {events} events {done['handled']} were handled.")
        return Round((events / done["seconds"],), use, {"redelivered": done["redelivered"]})

    return run


def measures_of(window: int) -> tuple[Measure, ...]:
    """Returns what a scenario measures."""
    return (Measure("", "/s", WINDOWS[window]),)


@functools.cache
def _command(language: str) -> tuple[str, ...]:
    match language:
        case "Python":
            return (sys.executable, str(PROGRAMS / "python_client.py"))
        case "Go":
            program = Path(tempfile.mkdtemp(prefix="certes-benchmarks-go-")) / "client"
            atexit.register(shutil.rmtree, program.parent, ignore_errors=True)
            _run(_tool("go"), "build", "-o", str(program), ".", cwd=PROGRAMS / "go")
            return (str(program),)
        case _:
            node = _tool("node")
            if not (ROOT / "sdk" / "js" / "dist").exists():
                _run(_tool("npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=ROOT / "sdk")
            _run(_tool("npm"), "run", "build", cwd=ROOT / "sdk")
            return (node, str(PROGRAMS / "js" / "client.mjs"))


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolchainMissing(f"{name} is not installed")
    return found


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolchainMissing(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-1000:]}")
