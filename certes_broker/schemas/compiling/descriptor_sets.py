"""Descriptor sets, checked: complete, in order, within the limits, and every text in them fit to be shown."""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.compiling.closures import ordered
from certes_broker.schemas.compiling.diagnostics import malformed
from certes_broker.schemas.compiling.limits import MAXIMUM_FILES, too_large
from certes_broker.schemas.compiling.measures import check_measures
from certes_broker.schemas.compiling.paths import path_problem, shown
from certes_broker.schemas.compiling.shared_files import shared_descriptors, shared_files
from certes_broker.schemas.compiling.texts import is_text_throughout


def checked_set(files: FileDescriptorSet) -> FileDescriptorSet:
    """Returns a set with all it imports, each file after what it imports, and our own copies of what every broker has.

    It may still not link. Raises `Invalid`: SCHEMA_MALFORMED where a text is none, a path cannot stand, or an import is
    missing or in a circle; SCHEMA_TOO_LARGE beyond a limit.
    """
    # The other limits are of what is not shared; this one keeps what follows from looking at half a million empty files.
    if len(files.file) > MAXIMUM_FILES + len(shared_files()):
        raise too_large("the files of a registration", len(files.file), MAXIMUM_FILES)
    if not is_text_throughout(files):
        problem = "a name, a comment or another text in the descriptors is not UTF-8"
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "files", problem)
    own = _own_files(files)
    if not own:
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "files", "no file is given")
    check_measures(own.values())
    return FileDescriptorSet(file=ordered({**own, **shared_descriptors()}, own, hint=_HINT))


_HINT: Final = "A descriptor set has all that it imports: `buf build` and `protoc --include_imports` make such."


def _own_files(files: FileDescriptorSet) -> dict[str, FileDescriptorProto]:
    """Returns the files that are not among those every broker has, by path."""
    violations: list[FieldViolation] = []
    found: dict[str, FileDescriptorProto] = {}
    for index, file in enumerate(files.file):
        if file.name in shared_files():
            continue
        problem = path_problem(file.name)
        if problem is None and file.name in found:
            problem = "the file is given twice"
        if problem is not None:
            violations.append(FieldViolation(f"files[{index}].name", f"{shown(file.name)}: {problem}"))
        found[file.name] = file
    if violations:
        raise malformed("files of the descriptor set have paths that cannot stand", violations)
    return found
