"""One setting: a key of the configuration, with what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from certes_broker.config.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One key: how it is read, between which bounds, and what it means. `path` is the key's, from the root."""

    kind: Kind[T]
    default: T
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    path: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key as errors and the reference spell it, such as `http.listen`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable, such as `CERTES_HTTP_LISTEN`."""
        return "_".join(("CERTES", *self.path)).upper()


def key(
    kind: Kind[T], default: T, meaning: str, *, minimum: float | None = None, maximum: float | None = None
) -> Any:  # as `dataclasses.field` does it: the type is the field's own
    """Declares a field of a section: a key of the configuration."""
    return field(default=default, metadata={"setting": Setting(kind, default, meaning, minimum, maximum)})
