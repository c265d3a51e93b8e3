"""The schema compiler: what strangers send as schemas, made into descriptors that are safe to keep.

Theory of operation
-------------------
Schemas come as sources or as descriptors, and end as the same: a `FileDescriptorSet` that is complete, ordered, within
every limit of `limits.py`, and known to link. Nobody's schemas are compiled or linked in the broker before a child process
has done it (`children.py`). The compiler can be ended by what it reads; the linker can not, but it believes more than it
should: it takes a map whose entry has its key under the number 100, and ends the process that reads such a map. So
descriptors go through the compiler too, which judges them as it does what it has parsed itself, and one set of rules holds
for both. Only then are they linked, as the broker will do it.

The compiler's folder holds the given files and nothing else. What every broker has comes as a descriptor set: no import
path exists on which anything else could be found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.compiling.children import COMPILED_SET, GIVEN_SET, SHARED_SET, Children, Outcome, Task
from certes_broker.schemas.compiling.descriptor_sets import checked_set
from certes_broker.schemas.compiling.diagnostics import compiler_errors, import_hint, malformed
from certes_broker.schemas.compiling.limits import (
    MAXIMUM_DESCRIPTOR_BYTES,
    MAXIMUM_FILES,
    MAXIMUM_SOURCE_BYTES,
    too_large,
)
from certes_broker.schemas.compiling.merging import merged_files, merged_version
from certes_broker.schemas.compiling.paths import check_paths, shown
from certes_broker.schemas.compiling.shared_files import shared_files, shared_set
from certes_broker.schemas.version_files import VersionFiles


def source_files(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns sources by path, from (path, text) in the order of the request.

    Raises `Invalid`: SCHEMA_MALFORMED where a path cannot stand or is given twice, SCHEMA_TOO_LARGE beyond a limit.
    """
    listed = list(files)
    if not listed:
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "files", "no file is given")
    if len(listed) > MAXIMUM_FILES:
        raise too_large("the files of a registration", len(listed), MAXIMUM_FILES)
    check_paths(path for path, _ in listed)
    return dict(listed)


class SchemaCompiler:
    """Compiles, checks and merges schemas. One for a broker: it bounds how many child processes run at once."""

    def __init__(self, children: Children | None = None) -> None:
        self._children = children or Children()

    async def compile_sources(self, files: Mapping[str, str]) -> FileDescriptorSet:
        """Compiles `.proto` sources, by path, to a checked descriptor set with their source information.

        Raises `Invalid`: SCHEMA_MALFORMED with a violation for each fault, `files[i]` by the order of the mapping and
        described as `path:line:column: text`; SCHEMA_TOO_LARGE beyond a limit. Raises what `Children.run` does.
        """
        contents = _contents(source_files(files.items()))
        arguments = [
            "--proto_path=.",
            f"--descriptor_set_in={SHARED_SET}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={COMPILED_SET}",
            *contents,
        ]
        shared = await asyncio.to_thread(shared_set)
        outcome = await self._children.run(Task({**contents, SHARED_SET: shared}, arguments, COMPILED_SET))
        fields = {path: f"files[{index}]" for index, path in enumerate(contents)}
        verdict = "the schemas do not compile"
        if outcome.compiled is None:
            raise _refusal(outcome, fields, verdict)
        # What is too large may not link because of that, so its size is judged first.
        checked = await asyncio.to_thread(_compiled_set, outcome.compiled)
        if not outcome.is_linked:
            raise _refusal(outcome, fields, verdict)
        return checked

    async def read_descriptor_set(self, wire: bytes) -> FileDescriptorSet:
        """Reads and checks a descriptor set that was compiled elsewhere, and returns it as `compile_sources` does.

        Of what every broker has, its own copies take the place of those in the set. Raises what `compile_sources` does;
        the violations have `files[i]` by the order of the set.
        """
        # Before it is parsed: empty messages, of two bytes each, take a hundred times as much when they are.
        if len(wire) > MAXIMUM_DESCRIPTOR_BYTES:
            raise too_large("the bytes of the descriptor set", len(wire), MAXIMUM_DESCRIPTOR_BYTES)
        files, checked = await asyncio.to_thread(_given_set, wire)
        fields = {file.name: f"files[{index}]" for index, file in enumerate(files.file)}
        await self._check_links(checked.file, fields, "the descriptor set is no valid one")
        return checked

    async def merge(self, registered: VersionFiles | None, new: VersionFiles) -> VersionFiles:
        """Returns a version with new files in the place of those with the same path, and the others that it needs.

        `merging.py` has the rules. Raises `Invalid`: SCHEMA_MALFORMED where what stays does not fit what is new,
        SCHEMA_TOO_LARGE where both together are beyond a limit. Raises what `Children.run` does.
        """
        if registered is None:
            return new
        files, merged = await asyncio.to_thread(_merged, registered, new)
        if merged.files != registered.files:
            fields = {file.name: file.name for file in files}
            await self._check_links(files, fields, f"what is registered of {new.name} does not fit the new files")
        return merged

    async def _check_links(self, files: Sequence[FileDescriptorProto], fields: Mapping[str, str], verdict: str) -> None:
        own = [file.name for file in files if file.name not in shared_files()]
        arguments = [f"--descriptor_set_in={GIVEN_SET}", f"--descriptor_set_out={COMPILED_SET}", *own]
        given = await asyncio.to_thread(lambda: FileDescriptorSet(file=files).SerializeToString())
        outcome = await self._children.run(Task({GIVEN_SET: given}, arguments, GIVEN_SET))
        if not outcome.is_linked:
            raise _refusal(outcome, fields, verdict)


def _contents(files: Mapping[str, str]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for path, text in files.items():
        try:
            contents[path] = text.encode()
        except UnicodeEncodeError as error:
            problem = f"{shown(path)} is no Unicode text: a surrogate stands at character {error.start}"
            raise Invalid.field(Reason.SCHEMA_MALFORMED, f"files[{len(contents)}].content", problem) from error
    size = sum(map(len, contents.values()))
    if size > MAXIMUM_SOURCE_BYTES:
        raise too_large("the bytes of all sources together", size, MAXIMUM_SOURCE_BYTES)
    return contents


def _given_set(wire: bytes) -> tuple[FileDescriptorSet, FileDescriptorSet]:
    """Returns a set as it was given, and checked."""
    try:
        files = FileDescriptorSet.FromString(wire)
    except DecodeError as error:
        problem = "is no google.protobuf.FileDescriptorSet: its bytes do not decode"
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "descriptor_set", problem) from error
    return files, checked_set(files)


def _merged(registered: VersionFiles, new: VersionFiles) -> tuple[Sequence[FileDescriptorProto], VersionFiles]:
    files = merged_files(registered, new)
    return files, merged_version(registered, new, files)


def _compiled_set(wire: bytes) -> FileDescriptorSet:
    try:
        compiled = FileDescriptorSet.FromString(wire)
    except DecodeError as error:
        # The compiler wrote it, so the one thing that our reader can have taken for something else is an option.
        problem = (
            "an option has the number 59600, which is that of (certes.v1.schema) and (certes.v1.event), and is neither"
        )
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "files", problem) from error
    return checked_set(compiled)


def _refusal(outcome: Outcome, fields: Mapping[str, str], verdict: str) -> Invalid:
    found = compiler_errors(outcome.messages, fields)
    return malformed(verdict, found, hint=import_hint(found))
