"""Where in a request the elements of schemas are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.errors import FieldViolation


class RequestPlaces:
    """Says what is wrong with an element as the compiler does, `path:line:column: text`, where the source is known.

    `paths` are those of the sources, in the order of the request; what is not among them is called by its path.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._fields = {path: f"files[{index}]" for index, path in enumerate(paths)}
        self._spans: dict[str, dict[tuple[int, ...], tuple[int, int]]] = {}

    def violation(self, file: FileDescriptorProto, element: Sequence[int], problem: str) -> FieldViolation:
        """Returns the violation of an element. `element` is its path in the descriptor, as `SourceCodeInfo` has it."""
        spans = self._spans.get(file.name)
        if spans is None:
            known = file.source_code_info.location
            spans = self._spans[file.name] = {tuple(place.path): (place.span[0], place.span[1]) for place in known}
        place = next((spans[at] for at in _ways_up(element) if at in spans), None)
        where = file.name if place is None else f"{file.name}:{place[0] + 1}:{place[1] + 1}"
        cut = problem if len(problem) <= _LONGEST else f"{problem[:_LONGEST]}…"
        return FieldViolation(self._fields.get(file.name, file.name), f"{where}: {cut}")


_LONGEST: Final = 400


def _ways_up(element: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns the element and what encloses it, but for the file, which begins nowhere in particular."""
    return [tuple(element[:length]) for length in range(len(element), 0, -1)]
