"""Measures the broker: `python -m benchmarks [--only NAME]... [--rounds N] [--seconds S]`.

Every round of a scenario has a broker of its own in a fresh directory. The rounds of the scenarios are interleaved, so
that a machine that drifts does so under all of them alike. A missed aim is no failure; a round that is void is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.machine import look_at_machine
from benchmarks.measures import Outcome
from benchmarks.nginx import NginxMissing
from benchmarks.report import report
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.sdks import ToolchainMissing
from benchmarks.stage import stage

MOST_ROUNDS: Final = 100
MOST_SECONDS: Final = 120.0
_STORED_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


def main() -> int:
    """Runs the command line and returns its exit code."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measures the broker on this machine.")
    parser.add_argument("--only", action="append", choices=names, help="this scenario; may be given several times")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each scenario (default: 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds that a round measures (default: 5)")
    parser.add_argument(
        "--directory", type=Path, help="where the data goes (default: the system's temporary directory)"
    )
    arguments = parser.parse_args()
    if not (1 <= arguments.rounds <= MOST_ROUNDS and 0 < arguments.seconds <= MOST_SECONDS):
        parser.error(f"1 to {MOST_ROUNDS} rounds of at most {MOST_SECONDS:g} seconds")
    chosen = [scenario for scenario in SCENARIOS if not arguments.only or scenario.name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="certes-benchmarks-", dir=arguments.directory) as directory:
        machine = look_at_machine(Path(directory))
        if machine.filesystem in _STORED_IN_MEMORY:
            _say(f"the data is on {machine.filesystem}, where a sync may cost nothing; choose a disk by --directory")
        outcomes = asyncio.run(_measure(chosen, Path(directory), arguments.rounds, arguments.seconds))
    print(report(machine, outcomes))
    return 0


async def _measure(scenarios: list[Scenario], directory: Path, rounds: int, seconds: float) -> dict[Scenario, Outcome]:
    outcomes = {scenario: Outcome() for scenario in scenarios}
    for number in range(1, rounds + 1):
        for scenario, outcome in outcomes.items():
            if outcome.skipped:
                continue
            try:
                async with stage(directory, seconds, scenario.nats_servers, scenario.brokers) as one:
                    measured = await scenario.run(one)
            except (NginxMissing, ToolchainMissing) as missing:
                outcome.skipped = str(missing)
                _say(f"{scenario.name}: skipped: {missing}")
                continue
            outcome.rounds.append(measured)
            values = ", ".join(
                f"{measure.label} {measure.show(value)}".strip()
                for measure, value in zip(scenario.measures, measured.values, strict=True)
            )
            _say(
                f"round {number} of {rounds}, {scenario.name}: {values}; broker {measured.use.per_event['broker']:.1f} µs"
            )
    return outcomes


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
