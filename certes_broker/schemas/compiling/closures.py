"""Files and what they import: complete, and in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.compiling.paths import shown


def imports_of(file: FileDescriptorProto) -> list[str]:
    """Returns the paths that a file imports, sorted, those for options only (`import option`) among them."""
    return sorted({*file.dependency, *file.option_dependency})


def ordered(
    files: Mapping[str, FileDescriptorProto], wanted: Iterable[str], *, hint: str = ""
) -> list[FileDescriptorProto]:
    """Returns files by path, with all that they import, each after what it imports.

    The order depends on paths and imports alone. Raises `Invalid` (SCHEMA_MALFORMED) naming an import that is missing,
    with the hint, or the files of a circle.
    """
    done: dict[str, FileDescriptorProto] = {}
    for path in sorted(wanted):
        if path not in done:
            _visit(path, files, done, hint)
    return list(done.values())


def _visit(
    root: str, files: Mapping[str, FileDescriptorProto], done: dict[str, FileDescriptorProto], hint: str
) -> None:
    """Adds a file after its imports. Without recursion: a chain of imports may be as long as the set."""
    way: dict[str, Iterator[str]] = {root: iter(imports_of(files[root]))}
    while way:
        path = next(reversed(way))
        for imported in way[path]:
            if imported in done:
                continue
            if imported in way:
                raise _circle([*way][[*way].index(imported) :])
            if imported not in files:
                raise _missing(imported, path, hint)
            way[imported] = iter(imports_of(files[imported]))
            break
        else:
            del way[path]
            done[path] = files[path]


def _missing(path: str, importer: str, hint: str) -> Invalid:
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"the file {shown(path)}, which {shown(importer)} imports, is missing.",
        metadata={"path": path, "importer": importer},
        violations=[FieldViolation("files", f"{shown(path)}, which {shown(importer)} imports, is missing")],
        hint=hint,
    )


def _circle(paths: Sequence[str]) -> Invalid:
    way = " → ".join([*map(shown, paths[:_SHOWN]), *(["…"] if len(paths) > _SHOWN else []), shown(paths[0])])
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"files import each other in a circle: {way}.",
        violations=[FieldViolation("files", f"a circle of imports: {way}")],
        hint="Move what both need into a file of its own.",
    )


_SHOWN: Final = 8
