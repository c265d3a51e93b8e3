"""The report: a table in Markdown, which reads as well on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.machine import Machine
from benchmarks.measures import Measure, Outcome
from benchmarks.scenarios import Scenario

# CPU is per event, or per delivery where there are several; `elsewhere` is how many cores others kept busy meanwhile.
_HEAD = ("scenario", "median", "min – max", "aim", "of aim", "", "broker CPU", "clients' CPU", "elsewhere")

_DISTURBED = 0.2


def report(machine: Machine, outcomes: Mapping[Scenario, Outcome]) -> str:
    """Returns the machine, the table and what was noted besides."""
    rows = [_HEAD, *(row for scenario, outcome in outcomes.items() for row in _rows(scenario, outcome))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    notes = list(_notes(outcomes))
    return "\n".join([str(machine), "", *lines, *([""] if notes else []), *notes])


def _rows(scenario: Scenario, outcome: Outcome) -> Iterator[Sequence[str]]:
    if not outcome.rounds:
        yield (scenario.title, f"skipped: {outcome.skipped or 'no rounds'}", "", "", "", "", "", "", "")
        return
    cpu = outcome.cpu()
    broker = cpu.pop("broker")
    cpu.pop("benchmark")
    clients = ", ".join(f"{name} {value:.1f}" for name, value in cpu.items())
    for index, measure in enumerate(scenario.measures):
        first = index == 0
        median, (least, most) = outcome.median(index), outcome.span(index)
        yield (
            f"{scenario.title}{f', {measure.label}' if measure.label else ''}",
            measure.show(median),
            f"{measure.show(least)} – {measure.show(most)}",
            "" if measure.aim is None else measure.show(measure.aim),
            "" if measure.aim is None else f"{median / measure.aim:.2f}",
            _verdict(measure, median),
            f"{broker:.1f} µs" if first else "",
            f"{clients} µs" if first else "",
            f"{outcome.elsewhere():.2f}" if first else "",
        )


def _verdict(measure: Measure, value: float) -> str:
    if measure.aim is None:
        return ""
    return "met" if measure.meets(value) else "missed"


def _notes(outcomes: Mapping[Scenario, Outcome]) -> Iterator[str]:
    busiest = max((outcome.elsewhere() for outcome in outcomes.values() if outcome.rounds), default=0.0)
    if busiest > _DISTURBED:
        yield f"Something else kept up to {busiest:.1f} cores busy meanwhile: rates are too low, latencies too high."
    for scenario, outcome in outcomes.items():
        noted = outcome.notes()
        if noted:
            yield f"{scenario.name}: " + ", ".join(f"{name} {value:,.1f}" for name, value in noted.items())
