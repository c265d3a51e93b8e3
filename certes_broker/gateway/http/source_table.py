"""The sources that the gateway serves now."""

from __future__ import annotations

from collections.abc import Iterable

from certes_broker.domain.sources import Source


class SourceTable:
    """Finds sources by name. Its content can be replaced while it is in use; a request sees either the old or the new."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self._sources = {source.name: source for source in sources}

    def get(self, name: str) -> Source | None:
        """Returns a source; None if there is none of this name."""
        return self._sources.get(name)

    def replace(self, sources: Iterable[Source]) -> None:
        """Serves these sources, and no others, from now on."""
        self._sources = {source.name: source for source in sources}
