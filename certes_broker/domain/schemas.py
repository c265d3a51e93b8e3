"""Schemas as registration sees them: versions, their revisions, and what changed between two of them.

Rules
-----
* A **version** is all schemas of one domain, namespace and major version. It is registered, compared and replaced as a
  whole, and counts its accepted changes: its **revision**, from 1.
* Whether a change is breaking is said by its rule alone; `docs/reference/compatibility.md` is the table of rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import NamedTuple


@unique
class Origin(StrEnum):
    """Where a schema comes from."""

    REGISTERED = "registered"
    COMMUNITY = "community"
    SYSTEM = "system"
    FOREIGN = "foreign"


class VersionName(NamedTuple):
    """Names a version. Sorts by domain, namespace and number."""

    domain: str
    namespace: str
    version: int

    @property
    def text(self) -> str:
        """What the event URIs of its types begin with, but for the last `/`: `community.certes.dev/github/1`."""
        return f"{self.domain}/{self.namespace}/{self.version}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One difference between two revisions. `before` and `after` are as a `.proto` file has them; empty for nothing."""

    rule: str
    element: str
    before: str
    after: str
    breaking: bool
    description: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a version compares with the registered one, of which `registered_revision` is 0 if there is none.

    `changes` has breaking ones first, then by element.
    """

    version: VersionName
    registered_revision: int
    changes: tuple[SchemaChange, ...]

    @property
    def breaking(self) -> tuple[SchemaChange, ...]:
        """The changes that can break somebody."""
        return tuple(change for change in self.changes if change.breaking)

    @property
    def is_compatible(self) -> bool:
        """Whether no change can break anybody."""
        return not self.breaking
