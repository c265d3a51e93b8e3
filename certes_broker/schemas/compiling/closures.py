"""Files and what they import: complete, and in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.compiling.paths import shown


def imports_of(file: FileDescriptorProto) -> list[str]:
    """Returns the paths that a file imports, sorted, those for options only (`import option`) among them."""
    return sorted({*file.dependency, *file.option_dependency})


def ordered(files: Mapping[str, FileDescriptorProto], wanted: Iterable[str]) -> list[FileDescriptorProto]:
    """Returns files by path, with all that they import, each after what it imports.

    The order depends on the paths and imports alone. Raises `Invalid` (SCHEMA_MALFORMED) naming an import that is
    missing, or the files of a circle.
    """
    done: dict[str, FileDescriptorProto] = {}
    for path in sorted(wanted):
        if path not in done:
            _visit(path, files, done)
    return list(done.values())


def _visit(root: str, files: Mapping[str, FileDescriptorProto], done: dict[str, FileDescriptorProto]) -> None:
    """Adds a file after its imports. Without recursion: a chain of imports may be as long as the set."""
    way: dict[str, Iterator[str]] = {root: iter(imports_of(_found(root, files, None)))}
    while way:
        path = next(reversed(way))
        for imported in way[path]:
            if imported in done:
                continue
            if imported in way:
                raise _circle([*way][[*way].index(imported) :])
            way[imported] = iter(imports_of(_found(imported, files, path)))
            break
        else:
            del way[path]
            done[path] = files[path]


def _found(path: str, files: Mapping[str, FileDescriptorProto], importer: str | None) -> FileDescriptorProto:
    file = files.get(path)
    if file is None:
        by = "" if importer is None else f", which {shown(importer)} imports"
        raise Invalid(
            Reason.SCHEMA_MALFORMED,
            f"the file {shown(path)}{by}, is missing.",
            metadata={"path": path},
            violations=[FieldViolation("files", f"{shown(path)} is missing")],
            hint="A descriptor set has all that it imports: `buf build` and `protoc --include_imports` make such.",
        )
    return file


def _circle(paths: Sequence[str]) -> Invalid:
    way = " → ".join(map(shown, [*paths[:_SHOWN], *(["…"] if len(paths) > _SHOWN else []), paths[0]]))
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"files import each other in a circle: {way}.",
        violations=[FieldViolation("files", f"a circle of imports: {way}")],
        hint="Move what both need into a file of its own.",
    )


_SHOWN = 8
