"""What a scenario measures, and what came of its rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a scenario and its aim. `unit` is `/s`, of which more is better, or `ms`, `s` or `MB`, of which less is.

    Without an aim it is measured to be compared.
    """

    label: str
    unit: str
    aim: float | None = None

    def meets(self, value: float) -> bool:
        """Whether a value meets the aim."""
        if self.aim is None:
            return True
        return value >= self.aim if self.unit == "/s" else value <= self.aim

    def show(self, value: float) -> str:
        """Writes a value with its unit."""
        match self.unit:
            case "/s":
                return f"{value:,.0f}/s"
            case "MB":
                return f"{value:,.0f} MB"
            case _:
                return f"{value:.2f} {self.unit}"


@dataclass(frozen=True, slots=True)
class Use:
    """What a round used: microseconds of CPU per event by process, and how many cores something else kept busy."""

    per_event: Mapping[str, float]
    elsewhere: float

    def beside(self, name: str, cpu: float, seconds: float, events: int) -> Use:
        """Returns the same with one process more, which has told itself what it used, and was counted as something else."""
        per_event = {**self.per_event, name: cpu * 1_000_000 / events}
        return Use(per_event, max(0.0, self.elsewhere - cpu / seconds))


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of a scenario gave: a value for each of its measures, and what it used."""

    values: tuple[float, ...]
    use: Use
    notes: Mapping[str, float] = field(default_factory=dict)
    """Further figures that help to read these, such as events per request."""


@dataclass(slots=True)
class Outcome:
    """The rounds of one scenario. `skipped` says why there are none."""

    rounds: list[Round] = field(default_factory=list)
    skipped: str = ""

    def median(self, index: int) -> float:
        """The median of a measure."""
        return statistics.median(one.values[index] for one in self.rounds)

    def span(self, index: int) -> tuple[float, float]:
        """The least and the greatest value of a measure."""
        values = [one.values[index] for one in self.rounds]
        return min(values), max(values)

    def cpu(self) -> dict[str, float]:
        """The median CPU per event of each process."""
        return _medians([one.use.per_event for one in self.rounds])

    def elsewhere(self) -> float:
        """The median of the cores that something else kept busy."""
        return statistics.median(one.use.elsewhere for one in self.rounds)

    def notes(self) -> dict[str, float]:
        """The median of each further figure."""
        return _medians([one.notes for one in self.rounds])


@dataclass(frozen=True, slots=True)
class Waits:
    """A histogram of the broker's own: how many waits there were up to each bound, in seconds, the last of which is infinite."""

    up_to: Mapping[float, float]

    @property
    def count(self) -> float:
        """How many waits there were."""
        return self.up_to[math.inf]

    def since(self, before: Waits) -> Waits:
        """Returns those that came after an earlier look."""
        return Waits({bound: count - before.up_to[bound] for bound, count in self.up_to.items()})

    def share_within(self, bound: float) -> float:
        """Returns the share of the waits that kept a bound."""
        return self.up_to[bound] / self.count

    def within(self, share: float) -> float:
        """Returns the least bound that this share of the waits kept."""
        return min(bound for bound, count in self.up_to.items() if count >= share * self.count)


def percentile(ascending: Sequence[float], share: float) -> float:
    """Returns the value below which `share` of the values are."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def _medians(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(mapping[key] for mapping in mappings) for key in mappings[0]} if mappings else {}
