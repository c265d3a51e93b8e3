"""Extents: how large the values are that a filter looks at.

What a filter costs depends on sizes that only the event has. While it is priced they are kept as *extents*: a sum of a
number, the event's bytes so many times, and the sizes of what lies at *paths* of the event. Paths are followed in the
event's own message, so that a filter over a list of ten is priced by ten, however large the event is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

DATA: Final = 0
EVENT: Final = 1
"""The numbers of the variables `data` and `event`; those of loops follow."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value lies: in the variable of this number, and from there by names of fields, keys and indices."""

    variable: int
    steps: tuple[str | int, ...] = ()

    def then(self, step: str | int) -> Path:
        """Returns the path of what lies one step on."""
        return Path(self.variable, (*self.steps, step))

    def follow(self, variables: Sequence[Any]) -> Any:
        """Returns what lies there, None if nothing does. A message that is absent is an empty one."""
        found = variables[self.variable]
        for step in self.steps:
            if found is None:
                return None
            found = _step(found, step)
        return found


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a value is at most: bytes of a text or message, elements of a list or map."""

    fixed: float = 0.0
    per_byte: float = 0.0
    paths: tuple[Path, ...] = ()

    def __add__(self, other: Extent) -> Extent:
        """Returns how large two values are together."""
        return Extent(self.fixed + other.fixed, self.per_byte + other.per_byte, (*self.paths, *other.paths))

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for every event."""
        return not self.per_byte and not self.paths

    def measure(self, size_at: Callable[[Path], float], event_bytes: int) -> float:
        """Returns the number; `size_at` says how large what lies at a path is."""
        size = self.fixed + self.per_byte * event_bytes
        for path in self.paths:
            size += size_at(path)
        return size

    def bound(self, event_bytes: int) -> float:
        """Returns a number that it is never above for an event of this size."""
        # A path's text, message or list is no larger than the event that it lies in.
        return self.fixed + (self.per_byte + len(self.paths)) * event_bytes

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        return any(path.variable == variable for path in self.paths)


def size_of(value: Any) -> int:
    """Returns how large a value is: see `Extent`. Whatever has no size of its own has 1."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, Sized):
        return len(value)
    return 0 if value is None else 1


def elements_of(value: Any) -> Sequence[Any]:
    """Returns what a loop over a value goes through: the elements of a list, the keys of a map."""
    value = _content(value)
    if isinstance(value, Mapping):
        return tuple(value)
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _step(value: Any, step: str | int) -> Any:
    value = _content(value)
    if isinstance(value, Mapping):
        # A look-up of a key of another type raises, and one with `[]` may add an entry.
        try:
            return value.get(step)
        except (TypeError, ValueError):
            return None
    if isinstance(step, str):
        return getattr(value, step, None) if isinstance(value, Message) else None
    return value[step] if isinstance(value, Sequence) and 0 <= step < len(value) else None


def _content(value: Any) -> Any:
    """Returns the map, list or other value that the well-known type of a JSON value stands for; all else as it is."""
    if not isinstance(value, Message):
        return value
    # By name, since every descriptor pool has such types of its own.
    match value.DESCRIPTOR.full_name:
        case "google.protobuf.Struct":
            return value.fields  # type: ignore[attr-defined]
        case "google.protobuf.ListValue":
            return value.values  # type: ignore[attr-defined]
        case "google.protobuf.Value":
            kind = value.WhichOneof("kind")
            return None if kind is None else _content(getattr(value, kind))
        case _:
            return value
