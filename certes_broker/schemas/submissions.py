"""What is submitted for registration: schemas as sources or as descriptors, read into versions that may be registered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.errors import FieldViolation, PermissionDenied, Reason
from certes_broker.schemas.catalogue import COMMUNITY_DOMAIN
from certes_broker.schemas.compiling.binding import bind
from certes_broker.schemas.compiling.compiler import SchemaCompiler, source_files
from certes_broker.schemas.compiling.paths import is_shared
from certes_broker.schemas.version_files import VersionFiles


@dataclass(frozen=True, slots=True)
class Sources:
    """`.proto` files: paths and texts."""

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CompiledSet:
    """The wire form of a `FileDescriptorSet`."""

    wire: bytes


Submission: TypeAlias = Sources | CompiledSet


async def read_submission(
    compiler: SchemaCompiler, submission: Submission, own_domain: str
) -> tuple[VersionFiles, ...]:
    """Returns the versions that were submitted, by name. `own_domain` is that of schemas which say none.

    Raises `Invalid` (SCHEMA_MALFORMED, SCHEMA_TOO_LARGE), `PermissionDenied` (SCHEMA_NOT_YOURS), and what a compiler does
    that is too busy or not there.
    """
    match submission:
        case Sources(files):
            sources = source_files(files)
            compiled = await compiler.compile_sources(sources)
        case CompiledSet(wire):
            sources = {}
            compiled = await compiler.read_descriptor_set(wire)
        case _:
            assert_never(submission)
    # Up to a MiB of descriptors is gone through: not in the loop, which has others to serve.
    versions = await asyncio.to_thread(bind, compiled, own_domain, sources)
    for version in versions:
        _check_owner(version)
    return versions


def _check_owner(version: VersionFiles) -> None:
    if version.name.domain == COMMUNITY_DOMAIN:
        raise _not_yours(
            f"the domain {COMMUNITY_DOMAIN} is that of the community catalogue, which comes with the broker"
        )
    for wire in version.files:
        file = FileDescriptorProto.FromString(wire)
        if not is_shared(file.name) and f"{file.package}.".startswith("certes."):
            raise _not_yours(
                f"{file.name} is of the package {file.package}, and `certes` is the broker's own", file.name
            )


def _not_yours(problem: str, path: str = "files") -> PermissionDenied:
    return PermissionDenied(
        Reason.SCHEMA_NOT_YOURS,
        f"These schemas cannot be registered: {problem}.",
        violations=[FieldViolation(path, problem)],
        hint="Use a domain and a package of your own; to add to the community catalogue, see CONTRIBUTING.md.",
    )
