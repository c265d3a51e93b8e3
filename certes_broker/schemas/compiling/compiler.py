"""The schema compiler: what strangers send as schemas, made into descriptors that are safe to keep.

Theory of operation
-------------------
Schemas come as sources or as descriptors, and end as the same: a `FileDescriptorSet` that is complete, ordered, within
every limit of `limits.py`, and known to link. Nobody's schemas are compiled or linked in the broker before a child process
has done it (`children.py`): both compiler and linker are programs in C that parse what strangers send, and some of it ends
them. Sources are compiled; descriptors go through the same compiler, which checks them as it does what it has parsed, so
that one set of rules holds for both. Both are then linked as the broker will do it.

The compiler's folder holds the given files and nothing else. What every broker has comes as a descriptor set: no import
path exists on which anything else could be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.compiling.children import COMPILED_SET, GIVEN_SET, SHARED_SET, Children, Task
from certes_broker.schemas.compiling.descriptor_sets import checked_set
from certes_broker.schemas.compiling.diagnostics import malformed
from certes_broker.schemas.compiling.limits import (
    MAXIMUM_DESCRIPTOR_BYTES,
    MAXIMUM_FILES,
    MAXIMUM_SOURCE_BYTES,
    too_large,
)
from certes_broker.schemas.compiling.merging import merged_files, merged_version
from certes_broker.schemas.compiling.paths import check_paths, is_shared, shown
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.version_files import VersionFiles


def source_files(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns sources by path, from (path, text) in the order of the request.

    Raises `Invalid`: SCHEMA_MALFORMED where a path cannot stand or is given twice, SCHEMA_TOO_LARGE beyond a limit.
    """
    listed = list(files)
    if len(listed) > MAXIMUM_FILES:
        raise too_large("the files of a registration", len(listed), MAXIMUM_FILES)
    check_paths(path for path, _ in listed)
    return dict(listed)


class SchemaCompiler:
    """Compiles, checks and merges schemas. One for a broker: it bounds how many child processes run at once."""

    def __init__(self, children: Children | None = None) -> None:
        self._children = children or Children()

    async def compile_sources(self, files: Mapping[str, str]) -> FileDescriptorSet:
        """Compiles `.proto` sources, by path, to a checked descriptor set with their comments.

        Raises `Invalid`: SCHEMA_MALFORMED with a violation for each fault, `files[i]` by the order of the mapping and
        described as `path:line:column: text`; SCHEMA_TOO_LARGE beyond a limit. Raises what `Children.run` does.
        """
        contents = _contents(source_files(files.items()))
        arguments = [
            "--proto_path=.",
            f"--descriptor_set_in=../{SHARED_SET}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out=../{COMPILED_SET}",
            *contents,
        ]
        shared = {f"../{SHARED_SET}": _serialized_set(shared_files().values())}
        outcome = await self._children.run(Task({**contents, **shared}, arguments, f"../{COMPILED_SET}"))
        if outcome.compiled is None:
            raise malformed(outcome.messages, list(contents))
        return checked_set(FileDescriptorSet.FromString(outcome.compiled))

    async def read_descriptor_set(self, files: FileDescriptorSet) -> FileDescriptorSet:
        """Checks a descriptor set that was compiled elsewhere, and returns it as `compile_sources` does.

        Of what every broker has, its own copies take the place of those in the set. Raises what `compile_sources` does.
        """
        size = files.ByteSize()
        if size > MAXIMUM_DESCRIPTOR_BYTES:
            raise too_large("the bytes of the descriptor set", size, MAXIMUM_DESCRIPTOR_BYTES)
        if len(files.file) > MAXIMUM_FILES:
            raise too_large("the files of a registration", len(files.file), MAXIMUM_FILES)
        checked = checked_set(files)
        await self._check_links(checked.file)
        return checked

    async def merge(self, registered: VersionFiles | None, new: VersionFiles) -> VersionFiles:
        """Returns a version with new files in the place of those with the same path, and the others that it needs.

        Raises `Invalid`: SCHEMA_MALFORMED where what stays does not fit what is new, SCHEMA_TOO_LARGE where both together
        are beyond a limit. Raises what `Children.run` does.
        """
        if registered is None:
            return new
        files = merged_files(registered, new)
        await self._check_links(files)
        return merged_version(registered, new, files)

    async def _check_links(self, files: Iterable[FileDescriptorProto]) -> None:
        listed = list(files)
        given = FileDescriptorSet(file=listed)
        names = [file.name for file in listed if not is_shared(file.name)]
        arguments = [f"--descriptor_set_in=../{GIVEN_SET}", f"--descriptor_set_out=../{COMPILED_SET}", *names]
        content = {f"../{GIVEN_SET}": given.SerializeToString()}
        outcome = await self._children.run(Task(content, arguments, f"../{GIVEN_SET}"))
        if outcome.compiled is None:
            raise malformed(outcome.messages, names)


def _contents(files: Mapping[str, str]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for path, text in files.items():
        try:
            contents[path] = text.encode()
        except UnicodeEncodeError as error:
            raise Invalid.field(
                Reason.SCHEMA_MALFORMED,
                f"files[{len(contents)}].content",
                f"{shown(path)} is no Unicode text: a surrogate stands at character {error.start}",
            ) from error
    size = sum(map(len, contents.values()))
    if size > MAXIMUM_SOURCE_BYTES:
        raise too_large("the bytes of all sources together", size, MAXIMUM_SOURCE_BYTES)
    if not contents:
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "files", "no file is given")
    return contents


def _serialized_set(files: Iterable[bytes]) -> bytes:
    """Returns a serialized `FileDescriptorSet` of serialized files."""
    return FileDescriptorSet(file=[FileDescriptorProto.FromString(wire) for wire in files]).SerializeToString()
